"""Optimizers, averages, norms, mixing and teachers in a training, as recipes tell them."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from repfold import models
from repfold.blocks.repvgg import RepVGGBlock
from repfold.errors import RepFoldError
from repfold.train import Recipe, optimizers, train
from repfold.train.distill import load_teacher
from repfold.train.events import Note, Started, Stepped
from repfold.train.machine import choose
from repfold.train.objective import seen_top1
from repfold.train.plausibility import unusual_settings
from repfold.train.regularise import equivalent_l2, equivalent_l2_of
from repfold.train.settings import resolve

TIMES = {"images_per_second", "waiting_share", "seconds"}


class Killed(Exception):
    pass


def records(directory):
    lines = (directory / "record.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def weights(directory):
    return models.load(directory / "best.safetensors").state_dict()


RECIPES = {
    "averaged": {
        "optimizer": "adamw:beta2=0.98",
        "lr": 0.005,
        "average": "ema:decay=0.9",
        "lookahead": 4,
        "mixup": 0.2,
        "cutmix": 1.0,
        "label_smoothing": 0.1,
        "custom_l2": True,
    },
    "swa": {"optimizer": "rmsprop", "lr": 0.002, "average": "swa:start=0", "model_options": "block=acb"},
    "mgnet": {
        "model": "mgnet-64",
        "model_options": "channels=8,iterations=1/1",
        "norm": "general:2/4/1/1",
        "optimizer": "adadelta",
        "lr": 1.0,
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_run_goes_on_to_the_same_weights(recipe, tmp_path, name):
    recipe = recipe.replace(**RECIPES[name], checkpoint_every=2)
    train(recipe, tmp_path / "whole")

    def die(event):
        if isinstance(event, Stepped) and (event.epoch, event.step) == (1, 4):
            raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path / "killed", on_event=die)
    train(recipe, tmp_path / "killed", resume=True)
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_what_is_kept_is_the_average_and_what_was_evaluated(recipe, tmp_path):
    result = train(recipe.replace(average="swa:start=0", epochs=3), tmp_path)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    if result.best_epoch == 3:
        kept, averaged = weights(tmp_path), checkpoint["average"]["weights"]
        assert all(torch.equal(kept[key], averaged[key]) for key in averaged)
    assert checkpoint["average"]["updates"] == 3
    assert any(not torch.equal(checkpoint["network"][k], v) for k, v in checkpoint["average"]["weights"].items())


@pytest.mark.parametrize("text", ["sgd", "adam", "adamw", "rmsprop", "adadelta:eps=0.01"])
def test_each_optimizer_minimises(text):
    parameter = nn.Parameter(torch.tensor([3.0, -2.0]))
    choice = optimizers.parse(text)
    assert {"sgd", "adam", "adamw", "rmsprop", "adadelta"} == set(optimizers.OPTIMIZERS)
    rate = 1.0 if text.startswith("adadelta") else 0.05
    optimizer = choice.make([{"params": [parameter]}], rate, fused=False)
    for _ in range(300):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    assert parameter.detach().abs().max() < 0.5


def test_optimizers_take_their_options_from_the_text_and_the_recipe():
    def made(lr: float, fused: bool, **settings) -> torch.optim.Optimizer:
        algorithm = resolve(Recipe(**settings)).optimizer.algorithm
        return algorithm.make([{"params": [nn.Parameter(torch.zeros(1))]}], lr, fused=fused)

    optimizer = made(0.1, False, optimizer="adam:beta2=0.95,amsgrad=true", momentum=0.8)
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["betas"] == (0.8, 0.95) and optimizer.defaults["amsgrad"]
    nesterov = made(1, True, nesterov=True)
    assert nesterov.defaults["nesterov"] and nesterov.defaults["momentum"] == 0.9


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"optimizer": "adamm"}, "Did you mean 'adam'"),
        ({"optimizer": "sgd:beta2=0.9"}, "no argument of optimizer 'sgd'"),
        ({"optimizer": "adam:beta2=1"}, r"beta2 is 1.0; it must be in \[0, 1\)"),
        ({"optimizer": "rmsprop", "nesterov": True}, "momentum of sgd"),
        ({"optimizer": "sgd:momentum=0", "nesterov": True}, "momentum above 0"),
        ({"average": "emma"}, "Did you mean 'ema'"),
        ({"average": "ema:decay=1"}, "decay of averaged weights"),
        ({"average": "swa:start=1"}, "start of averaged weights"),
        ({"model_options": "block"}, "name=value"),
        ({"model_options": "a=1,a=2"}, "given twice"),
        ({"distill_weight": 1.5}, "at most 1"),
        ({"schedule": "inverse-sigmoid:c=99"}, None),
        ({"mixup": -1.0}, "mixup"),
    ],
)
def test_wrong_settings_are_told(settings, message):
    if message is None:  # what depends on the length of the run is told when the run begins
        with pytest.raises(RepFoldError):
            resolve(Recipe(**settings)).learning_rate(0, 10, 25)
        return
    with pytest.raises(RepFoldError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"norm": "group:5"}, "do not divide"),
        ({"norm": "general:3/1/1/1"}, "gN divides"),
        ({"norm": "gruop:2"}, "Did you mean 'group'"),
        ({"model_options": "blok=dbb"}, "blok"),
        ({"model": "vgg-pico", "custom_l2": True}, "no.*turn it off|none: turn it off"),
        ({"teacher": "no/such/run"}, "no/such/run"),
        ({"augment": "cutuot"}, "Did you mean 'cutout'"),
        ({"warmup": "9ep"}, "warm"),
    ],
)
def test_what_cannot_be_assembled_is_told_before_training(recipe, tmp_path, settings, message):
    with pytest.raises(RepFoldError, match=message):
        train(recipe.replace(**{"warmup": "0"} | settings), tmp_path)
    assert not (tmp_path / "record.jsonl").exists()


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"optimizer": "adam"}, "lr 0.1 is high for adam"),
        ({"optimizer": "adadelta", "lr": 0.01}, "lr 0.01 is low for adadelta"),
        ({"batch": 2048}, "without warm-up"),
        ({"average": "ema:decay=0.9999"}, "will lag behind"),
        ({"average": "swa:start=0.99"}, "fewer than two epochs"),
        ({"lookahead": 1}, "only scales"),
        ({"teacher": "x", "distill_weight": 0.0}, "never listened to"),
        ({"mixup": 8.0}, "half and half"),
    ],
)
def test_what_is_surely_not_meant_is_warned_of(settings, told):
    assert any(told in doubt for doubt in unusual_settings(resolve(Recipe(**settings)), 100))
    assert list(unusual_settings(resolve(Recipe()), 100)) == []
    assert list(unusual_settings(resolve(Recipe(batch=2048, schedule="warmup-stable-decay")), 100)) == []


def test_warnings_reach_the_listener(recipe, tmp_path):
    heard = []
    train(recipe.replace(lookahead=1, epochs=1), tmp_path, on_event=heard.append)
    assert any(isinstance(event, Note) and "only scales" in event.text for event in heard)


def test_the_rate_is_scaled_to_the_batch_on_request_and_said(recipe, tmp_path):
    scaled = recipe.replace(lr=0.4, lr_batch=256, epochs=1, warmup="0", schedule="constant")
    assert resolve(scaled).learning_rate.base == 0.05
    heard = []
    result = train(scaled, tmp_path, on_event=heard.append)
    assert result.records[0]["lr"] == pytest.approx(0.05)
    (started,) = [event for event in heard if isinstance(event, Started)]
    assert "lr 0.05" in started.summary["schedule"] and "scaled to 32" in started.summary["updates"]


def test_accuracy_of_mixed_images_counts_shares():
    logits = torch.eye(3)[[0, 1, 2]]
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.7, 0.3, 0.0], [0.7, 0.3, 0.0]])
    assert seen_top1(logits, targets) == pytest.approx((0.7 + 0.3 + 0.0) / 3)
    assert seen_top1((logits, None), torch.tensor([0, 1, 1])) == pytest.approx(2 / 3)


def test_the_penalty_of_a_repvgg_block_is_the_published_one():
    torch.manual_seed(0)
    block = RepVGGBlock(4, 4).branches.double()
    for norm in (block.kxk.norm, block.point.norm, block.identity):
        norm.weight.data.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
    full, point = block.kxk.conv.weight, block.point.conv.weight
    scales = [n.weight.detach() / torch.sqrt(n.running_var + n.eps) for n in (block.kxk.norm, block.point.norm)]
    expected = 0.0
    for o in range(4):
        t3, t1 = float(scales[0][o]), float(scales[1][o])
        for i in range(4):
            for y in range(3):
                for x in range(3):
                    weight = float(full.detach()[o, i, y, x])
                    centre = (weight * t3 + float(point.detach()[o, i, 0, 0]) * t1) ** 2 / (t3**2 + t1**2)
                    expected += centre if (y, x) == (1, 1) else weight**2
    assert equivalent_l2(block).item() == pytest.approx(expected)
    penalty = equivalent_l2_of(block)
    penalty(0.01).backward()
    torch.testing.assert_close(full.grad[:, :, 0], 0.01 * full.detach()[:, :, 0])  # that of weight decay
    assert block.kxk.norm.weight.grad is None and block.identity.weight.grad is None
    assert penalty.kernels == {full, point}


def test_kernels_under_the_penalty_are_not_decayed_twice(recipe, tmp_path):
    train(recipe.replace(custom_l2=True, epochs=1), tmp_path)
    groups = json.loads((tmp_path / "environment.json").read_text())["parameter_groups"]
    assert any(group.startswith("Conv2d") and group.endswith("no decay") for group in groups)
    assert not any(group.startswith("Conv2d") and group.endswith("values, decay") for group in groups)


def test_a_student_learns_from_a_run(recipe, tmp_path):
    train(recipe.replace(lr=0.1, epochs=4), tmp_path / "teacher")
    taught = recipe.replace(
        teacher=str(tmp_path / "teacher"), distill_weight=1.0, distill_temperature=2.0, model="vgg-pico"
    )
    result = train(taught, tmp_path / "student")
    assert all(math.isfinite(record["train_loss"]) for record in result.records)
    alone = train(taught.replace(teacher=""), tmp_path / "alone")
    assert alone.records[0]["train_loss"] != result.records[0]["train_loss"]


def test_a_teacher_sees_images_as_it_was_trained_on_them(recipe, tmp_path):
    classes = ("a", "b")
    own = models.Preprocessing(16, 16, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1))
    student = models.Preprocessing(32, 32, (0.1, 0.2, 0.3), (0.5, 0.4, 0.3))
    torch.manual_seed(0)
    network = models.create("vgg-pico", num_classes=2, preset="32px").eval()
    path = tmp_path / "teacher.safetensors"
    models.save(network, path, description=models.Description(models.architecture_of(network), classes, own))
    teacher = load_teacher(str(path), classes, student, choose(recipe))
    pixels = torch.rand(2, 3, 32, 32)

    def normalised(of, x):
        return (x - torch.tensor(of.mean).view(3, 1, 1)) / torch.tensor(of.std).view(3, 1, 1)

    small = functional.interpolate(pixels, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(
        teacher(normalised(student, pixels)), network(normalised(own, small)), atol=1e-5, rtol=1e-4
    )
    assert not teacher(normalised(student, pixels)).requires_grad
    with pytest.raises(RepFoldError, match="same classes in the same order"):
        load_teacher(str(path), ("b", "a"), student, choose(recipe))
    gray = models.Preprocessing(32, 32, (0.1,), (0.5,), 1)
    with pytest.raises(RepFoldError, match="set channels to 3"):
        load_teacher(str(path), classes, gray, choose(recipe))


def test_a_run_with_another_norm_is_loaded_with_it(recipe, tmp_path):
    train(recipe.replace(norm="group:4", model="resnet20-cifar", epochs=1), tmp_path)
    network = models.load(tmp_path)
    assert isinstance(network.bn1, nn.GroupNorm) and type(network).__name__ == "ResNet"
