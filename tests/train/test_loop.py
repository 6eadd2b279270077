"""The loop: it trains, records what happened, and stops at what cannot go on."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

import repfold
from repfold import models, run_files, schedule
from repfold.errors import RepFoldError
from repfold.train import train
from repfold.train.events import EpochDone, Note, Started, Stepped

TIMES = {"images_per_second", "waiting_share", "seconds"}

FACTORIES = """
import torch
from torch import nn

class Explodes(nn.Module):
    '''The loss is finite for the first eight batches.'''
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.calls = 0
    def forward(self, x):
        self.calls += self.training
        return self.linear(x.flatten(1)) * (float("nan") if self.calls > 8 else 1.0)

def explodes(num_classes=10, in_channels=1):
    return Explodes()

class Auxiliary(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.side = nn.Linear(64, 10), nn.Linear(64, 10)
    def forward(self, x):
        x = x.flatten(1)
        return (self.main(x), self.side(x)) if self.training else self.main(x)

def auxiliary(num_classes=10, in_channels=1):
    return Auxiliary()

def headless(num_classes=10, in_channels=1):
    return nn.Flatten()

def picky(num_classes=10, in_channels=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(100, num_classes))
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "loop_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "loop_factories", raising=False)


def test_a_run_is_complete_and_tells_what_happened(recipe, tmp_path):
    events: list = []
    result = train(recipe, tmp_path / "run", on_event=events.append)
    lines = [json.loads(line) for line in (tmp_path / "run" / run_files.RECORD).read_text().splitlines()]
    assert lines == list(result.records) == [event.record for event in events if isinstance(event, EpochDone)]
    assert [line["epoch"] for line in lines] == [1, 2] and [line["step"] for line in lines] == [6, 12]
    course = schedule.warmup("3it", then=schedule.cosine())
    rates = [0.05 * course(step, 6, 2) for step in range(12)]
    assert [event.lr for event in events if isinstance(event, Stepped)] == rates
    assert [(line["lr_first"], line["lr"]) for line in lines] == [(rates[0], rates[5]), (rates[6], rates[11])]
    assert lines[1]["train_loss"] < lines[0]["train_loss"] < math.log(10) + 0.5
    assert result.best_top1 == max(line["val_top1"] for line in lines)
    environment = json.loads((tmp_path / "run" / run_files.ENVIRONMENT).read_text())
    assert environment["machine"]["precision"] == "fp32" and environment["torch"] == torch.__version__
    assert environment["data"]["training_images"] == 200 and environment["data"]["validation_images"] == 50
    assert any("no decay" in line for line in environment["parameter_groups"])
    assert {type(event) for event in events} >= {Started, Stepped, EpochDone}


def test_the_saved_network_is_the_best_one_with_all_that_it_needs(recipe, tmp_path):
    train(recipe, tmp_path / "run")
    model = models.load_model(tmp_path / "run")
    assert model.description.classes == tuple("0123456789")
    assert model.description.preprocessing.image_size == 8 and model.description.preprocessing.channels == 1
    confusion = json.loads((tmp_path / "run" / run_files.CONFUSION).read_text())
    matrix = torch.tensor(confusion["matrix_TP"])
    assert matrix.sum(dim=1).tolist() == [5] * 10
    best = max(json.loads(line)["val_top1"] for line in (tmp_path / "run" / run_files.RECORD).open())
    assert 100 * float(matrix.diagonal().sum()) / 50 == pytest.approx(best)


def test_the_same_recipe_gives_the_same_run_and_another_seed_another(recipe, tmp_path):
    recipe = recipe.replace(epochs=1, mixup=0.2, cutmix=0.5, flip=0.3, label_smoothing=0.1)
    runs = [train(recipe.replace(seed=seed), tmp_path / name) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    told = [[{k: v for k, v in line.items() if k not in TIMES} for line in run.records] for run in runs]
    assert told[0] == told[1] != told[2]
    states = [repfold.load(tmp_path / name).state_dict() for name in "abc"]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["head.weight"], states[2]["head.weight"])


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"optimizer": "adamw", "lr": 0.003}, {"nesterov": True}])
def test_other_precisions_and_optimizers_train_too(recipe, tmp_path, changes):
    result = train(recipe.replace(**changes), tmp_path / "run")
    assert result.records[1]["train_loss"] < result.records[0]["train_loss"]


def test_training_starts_from_another_network_but_for_its_classifier(recipe, tmp_path, factories):
    train(recipe, tmp_path / "first")
    notes: list[Note] = []
    tuned = recipe.replace(init=str(tmp_path / "first"), epochs=1, lr=1e-9, warmup="0")
    result = train(tuned, tmp_path / "second", on_event=lambda e: notes.append(e) if isinstance(e, Note) else None)
    first = models.load_model(tmp_path / "first").network
    assert "tensors loaded" in notes[0].text
    assert torch.allclose(first.head.weight, repfold.load(tmp_path / "second").head.weight, atol=1e-6)
    assert result.records[0]["val_top1"] > 20


def test_auxiliary_heads_have_their_share_of_the_loss(recipe, tmp_path, factories):
    recipe = recipe.replace(model="loop_factories:auxiliary", preset="imagenet", epochs=1, lr=1e-9)
    alone, both = (
        train(recipe.replace(auxiliary_weight=weight), tmp_path / str(weight)).records[0]["train_loss"]
        for weight in (0.0, 1.0)
    )
    assert both > alone + 1


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(recipe, tmp_path, factories):
    recipe = recipe.replace(model="loop_factories:explodes", preset="imagenet")
    with pytest.raises(
        RepFoldError, match=r"loss is nan at step 3 of epoch 2, at a learning rate of 0\.0\d+"
    ) as caught:
        train(recipe, tmp_path / "run")
    assert "last good checkpoint is kept" in str(caught.value)
    content = torch.load(tmp_path / "run" / run_files.CHECKPOINT, weights_only=True)
    assert (content["state"]["epoch"], content["state"]["step"]) == (1, 0)
    assert all(torch.isfinite(tensor).all() for tensor in content["network"].values())


def test_weights_that_are_not_finite_never_become_a_checkpoint(recipe, tmp_path):
    with pytest.raises(RepFoldError, match=r"not finite|loss is") as caught:
        train(recipe.replace(lr=1e30, warmup="0", checkpoint_every=1), tmp_path / "run")
    assert "lower lr" in str(caught.value)
    for path in (tmp_path / "run").glob(run_files.CHECKPOINT):
        assert all(torch.isfinite(tensor).all() for tensor in torch.load(path, weights_only=True)["network"].values())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": ""}, "names no data"),
        ({"batch": 300}, "fewer than one batch of 300"),
        ({"model": "repvgg-pica"}, "Did you mean 'repvgg-pico'"),
        ({"preset": "33px"}, "Did you mean '32px'"),
        ({"augment": "cutot"}, "Did you mean 'cutout'"),
        ({"warmup": "2ep"}, "leaves nothing of a run"),
        ({"model": "loop_factories:headless", "preset": "imagenet"}, r"returns \[2, 64\] for 2 images"),
        ({"model": "loop_factories:picky", "preset": "imagenet"}, "cannot run on images"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"crop_padding": 0.2, "crop_scale": (0.5, 1.0)}, "say which"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(recipe, tmp_path, factories, changes, told):
    with pytest.raises(RepFoldError, match=told):
        train(recipe.replace(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_warns_is_told(recipe, tmp_path):
    notes: list[str] = []
    listen = lambda event: notes.append(event.text) if isinstance(event, Note) else None  # noqa: E731
    train(recipe.replace(schedule="sgdr:first=7it", warmup="0", epochs=1), tmp_path / "run", on_event=listen)
    assert any("ends inside a cycle" in note for note in notes)
