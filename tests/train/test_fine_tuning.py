"""The settings of fine-tuning and of uneven classes: what each does to the weights, and that a resumed run agrees."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch.nn import functional

from repfold import models
from repfold.data import Loader, in_memory
from repfold.errors import RepFoldError
from repfold.report.records import read_runs
from repfold.schedule import fine_tuning_lr
from repfold.train import Stopped, checkpoint, replay, train
from repfold.train.assemble import assemble
from repfold.train.distributed import Ranks
from repfold.train.events import EpochDone, Note, Stepped, ignore
from repfold.train.loss import balanced_weights, cross_entropy
from repfold.train.machine import choose
from repfold.train.position import Position
from repfold.train.recipe import Recipe
from repfold.train.settings import resolve
from repfold.train.step import step


def trained(recipe, directory):
    train(recipe, directory)
    return models.load(directory).state_dict()


def assembled(recipe):
    return assemble(resolve(recipe), choose(recipe), Ranks(), ignore)


def stop_within(recipe, directory):
    """Stop a run in its second epoch, as Ctrl-C does, and go on with it."""

    def listen(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (1, 3):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(recipe, directory, on_event=listen)
    train(recipe, directory, resume=True)


VARIED = {
    "head-first": {"head_first": "8it", "head_rate": 10.0},
    "layer decay": {"layer_decay": 0.5, "optimizer": "adamw", "lr": 0.001},
    "uneven": {"sampling": "balanced", "class_weights": "balanced", "mixup": 0.2, "label_smoothing": 0.1},
    "by images": {"lr": 0.0},
}


@pytest.mark.parametrize("settings", VARIED.values(), ids=VARIED.keys())
def test_a_run_that_was_stopped_ends_at_the_same_bits(recipe, tmp_path, settings):
    recipe = recipe.replace(**settings)
    train(recipe, tmp_path / "whole")
    stop_within(recipe, tmp_path / "stopped")
    one, other = (checkpoint.read(tmp_path / name / "checkpoint.pt") for name in ("whole", "stopped"))
    assert replay.differences(one, other) == []


def test_at_first_only_the_classifier_moves_and_no_statistics(recipe):
    run = assembled(recipe.replace(head_first="2it", weight_decay=0.01))
    before = {name: value.clone() for name, value in run.parts.network.state_dict().items()}
    for number, batch in zip(range(3), run.loaders.train.epoch(0)):
        step(run.parts, batch, Position(0, number), 0.1)
        now = run.parts.network.state_dict()
        moved = {name for name in before if not torch.equal(before[name], now[name])}
        if number < 2:
            assert moved == {"head.weight", "head.bias"}
    assert {"stem.branches.kxk.conv.weight", "stem.branches.kxk.norm.running_mean"} < moved


def test_a_layers_rate_is_its_share_of_the_schedules(recipe):
    """One step of plain gradient descent moves each parameter by its rate times what an even rate moves it."""
    recipe = recipe.replace(momentum=0.0, weight_decay=0.0, augment="none")
    changes = []
    for rates in ({}, {"layer_decay": 0.5, "head_rate": 4.0}):
        run = assembled(recipe.replace(**rates))
        before = {name: value.detach().clone() for name, value in run.parts.network.named_parameters()}
        step(run.parts, next(iter(run.loaders.train.epoch(0))), Position(0, 0), 0.1)
        changes.append({name: value.detach() - before[name] for name, value in run.parts.network.named_parameters()})
    even, scaled = changes
    kernel = "branches.kxk.conv.weight"
    for name, factor in (("head.weight", 4.0), (f"stages.3.0.{kernel}", 1.0), (f"stem.{kernel}", 0.5**6)):
        assert even[name].abs().max() > 0
        torch.testing.assert_close(scaled[name], factor * even[name], rtol=1e-3, atol=1e-7)


def test_lr_0_is_what_the_number_of_images_asks_for(recipe, tmp_path):
    train(recipe.replace(lr=0.0, warmup="0ep", schedule="constant", epochs=1), tmp_path / "run")
    (record,) = map(json.loads, (tmp_path / "run" / "record.jsonl").read_text().splitlines())
    assert record["lr"] == pytest.approx(fine_tuning_lr(200, 32)) == pytest.approx(0.001 / 8)
    with pytest.raises(RepFoldError, match="lr 0 stands for the rate that sgd wants"):
        Recipe(optimizer="adamw", lr=0.0)


def test_a_run_without_a_better_epoch_ends_and_stays_ended(recipe, tmp_path):
    recipe = recipe.replace(lr=1e-9, warmup="0ep", epochs=9, patience=2, checkpoint_every=0)
    events = []
    result = train(recipe, tmp_path / "run", on_event=events.append)
    count = len(result.records)
    assert count == result.best_epoch + 2 < 9
    assert [event.last for event in events if isinstance(event, EpochDone)] == [False] * (count - 1) + [True]
    assert any(isinstance(event, Note) and "Ended early" in event.text for event in events)
    (run,) = read_runs([tmp_path / "run"])
    assert not run.unfinished
    assert train(recipe, tmp_path / "run", resume=True).records == result.records


def test_weighted_losses_of_numbers_and_of_probabilities_agree_with_their_definition():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=draw, dtype=torch.float64)
    labels = torch.randint(4, (9,), generator=draw)
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    targets = 0.9 * functional.one_hot(labels, 4).double() + 0.1 / 4
    defined = -(weights * targets * logits.log_softmax(1)).sum() / 9
    for given in (labels, functional.one_hot(labels, 4).double()):
        assert cross_entropy(logits, given, smoothing=0.1, weights_K=weights) == pytest.approx(defined.item())


def test_balanced_weights_give_every_class_the_same_share():
    labels = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = balanced_weights(labels, 4)
    assert weights.tolist() == pytest.approx([10 / 24, 10 / 12, 0.0, 10 / 4])
    assert float(weights[labels].sum()) == pytest.approx(10 * 3 / 4)  # class 2 has no images


def test_balanced_epochs_have_as_many_of_each_class_and_differ():
    labels = torch.tensor([0] * 50 + [1] * 9 + [2] * 4)
    pixels = np.broadcast_to(np.arange(63, dtype=np.uint8)[:, None, None, None], (63, 4, 4, 3)).copy()
    loader = Loader(in_memory(pixels, labels.numpy(), square=True), 7, train=True, balanced=True)
    epochs = []
    for epoch in range(2):
        batches = list(loader.epoch(epoch))
        seen = torch.cat([batch.labels for batch in batches])
        assert torch.bincount(seen).tolist() == [21, 21, 21]
        images = torch.cat([batch.x_NCHW[:, 0, 0, 0] for batch in batches])
        counts = torch.bincount(images.int(), minlength=63)
        assert counts[:50].max() == 1 and set(counts[50:59].tolist()) == {2, 3} and set(counts[59:].tolist()) == {5, 6}
        epochs.append(images)
    assert not torch.equal(*epochs)
    resumed = torch.cat([batch.x_NCHW[:, 0, 0, 0] for batch in loader.epoch(1, 2)])
    assert torch.equal(resumed, epochs[1][14:])


@pytest.mark.parametrize(
    "images, batch, lr", [(500, 256, 0.001), (1000, 64, 0.00025), (10_000, 256, 0.00316), (10**6, 256, 0.01)]
)
def test_the_rate_of_fine_tuning_grows_with_the_data(images, batch, lr):
    assert fine_tuning_lr(images, batch) == pytest.approx(lr, rel=1e-2)
