"""Targets train under rules from scales, resume with their own copy of them, and searches give scales."""

import json

import pytest
import torch

from repfold import models
from repfold.errors import RepFoldError
from repfold.fold import fold
from repfold.models import load_scales, save_scales
from repfold.models.scales import BlockScales, Scales
from repfold.train import Recipe, Stopped, train
from repfold.train.events import Note, Started, Stepped

TARGET, SEARCH = "repopt-vgg-pico", "repopt-vgg-pico-hs"


def losses(result) -> list[float]:
    return [record["train_loss"] for record in result.records]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of one epoch."""
    recipe = Recipe(data="digits", per_class=(20, 5), model=SEARCH, preset="32px", epochs=1, batch=32, lr=0.05)
    recipe = recipe.replace(precision="fp32", threads=1, device="cpu")
    directory = tmp_path_factory.mktemp("search") / "run"
    train(recipe, directory)
    return directory


def test_a_search_trains_its_scales_and_does_not_decay_them(searched):
    scales = load_scales(searched)
    begun = models.create(SEARCH, num_classes=10, preset="32px", in_channels=1)
    assert not torch.equal(scales.blocks["stem"].kxk_O, begun.stem.branches.structure.kxk_scale_O11.flatten())
    groups = json.loads((searched / "environment.json").read_text())["parameter_groups"]
    assert any("CSLABranches" in line and "no decay" in line for line in groups)


def test_a_target_trains_with_the_scales_of_a_run_and_folds(recipe, searched, tmp_path):
    events = []
    recipe = recipe.replace(model=TARGET, scales=str(searched))
    train(recipe, tmp_path / "run", on_event=events.append)
    started = next(event for event in events if isinstance(event, Started))
    assert "gradients of 7 layers re-parameterized, by factors of" in started.summary["updates"]
    kept = load_scales(tmp_path / "run")
    assert torch.equal(kept.blocks["stem"].kxk_O, load_scales(searched).blocks["stem"].kxk_O)
    rules = json.loads((tmp_path / "run" / "rules.json").read_text())["layers"]
    assert [layer["name"] for layer in rules][:2] == ["stem.branches.conv", "stages.0.0.branches.conv"]
    network = models.load(tmp_path / "run")
    plain, _ = fold(network, torch.randn(2, 1, 8, 8))
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())


def test_scales_make_a_difference_and_without_them_it_is_said_which(recipe, searched, tmp_path):
    events = []
    without = train(recipe.replace(model=TARGET, epochs=1), tmp_path / "without", on_event=events.append)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("No scales are given" in note and f"train {SEARCH}" in note for note in notes)
    given = train(recipe.replace(model=TARGET, epochs=1, scales=str(searched)), tmp_path / "given")
    plain = train(recipe.replace(model="vgg-pico", epochs=1), tmp_path / "plain")
    assert len({*losses(without), *losses(given), *losses(plain)}) == 3


@pytest.mark.parametrize("optimizer, lr", [("sgd", 0.05), ("adamw", 0.002)])
def test_resumes_bit_exactly_even_when_the_scales_are_gone(recipe, searched, tmp_path, optimizer, lr):
    scales = tmp_path / "scales.safetensors"
    save_scales(load_scales(searched), scales)
    recipe = recipe.replace(model=TARGET, scales=str(scales), optimizer=optimizer, lr=lr, checkpoint_every=2)
    whole = train(recipe, tmp_path / "whole")

    def interrupt(event) -> None:
        if isinstance(event, Stepped) and (event.epoch, event.step) == (0, 4):
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Stopped)):
        train(recipe, tmp_path / "torn", on_event=interrupt)
    scales.unlink()
    again = train(recipe, tmp_path / "torn", resume=True)
    assert losses(again) == losses(whole)
    ours, theirs = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("torn", "whole"))
    assert all(torch.equal(ours["network"][key], theirs["network"][key]) for key in theirs["network"])


def test_a_target_trains_as_its_branches(recipe, searched, tmp_path):
    """The very same run with the branch network (in float32, so for a few steps): its losses are the target's."""
    recipe = recipe.replace(epochs=1, augment="none", weight_decay=0.0)
    target = train(recipe.replace(model=TARGET), tmp_path / "target")
    beside = train(recipe.replace(model=f"{__name__}:branches"), tmp_path / "branches")
    assert losses(beside) == pytest.approx(losses(target), rel=1e-3)


def branches(num_classes: int, preset: str, in_channels: int) -> torch.nn.Module:
    """The branches that the target of the test above stands for, with the same initial weights."""
    from repfold.models.repopt import branch_network

    target = models.create(TARGET, num_classes=num_classes, preset=preset, in_channels=in_channels)
    return branch_network(target)


def test_online_folding_gives_the_losses_of_the_branches(recipe, tmp_path):
    recipe = recipe.replace(model=SEARCH)
    ordinary = train(recipe, tmp_path / "ordinary")
    online = train(recipe.replace(online_fold=True), tmp_path / "online")
    assert losses(online) == pytest.approx(losses(ordinary), rel=1e-3)
    assert (
        models.load(tmp_path / "online").state_dict().keys() == models.load(tmp_path / "ordinary").state_dict().keys()
    )


def changed(directory, **of_stem: torch.Tensor) -> Scales:
    scales = load_scales(directory)
    stem = scales.blocks["stem"]
    return Scales({**scales.blocks, "stem": BlockScales(**({"kxk_O": stem.kxk_O, "point_O": stem.point_O} | of_stem))})


REFUSED = {
    "of no target": ({"model": "repvgg-pico"}, "scales are for the targets of a hyper-search.*repvgg-pico is none"),
    "of a search": ({"model": SEARCH}, "scales are for the targets"),
    "of another architecture": ({"model": "repopt-vgg-a0"}, "7 blocks, but repopt-vgg-a0 has 22"),
    "of other strides": ({"preset": "imagenet"}, "an identity in block stages.0.0.*preset"),
    "under an optimizer without rules": ({"optimizer": "adam", "lr": 1e-3}, "rules for sgd or adamw, not for adam"),
    "missing": ({"scales": "nowhere.pth"}, r"nowhere\.pth does not exist"),
    "other blocks": ({"model_options": "block=dbb"}, "no target of a hyper-search"),
    "expanded as well": ({"expand": "acb"}, "its branches in the optimizer already"),
    "no norms": ({"model_options": "norm=false"}, "no target of a hyper-search"),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_scales_are_refused(recipe, searched, tmp_path, changes, message):
    settings = {"model": TARGET, "scales": str(searched)} | changes
    with pytest.raises(RepFoldError, match=message):
        train(recipe.replace(**settings), tmp_path / "run")


def test_scales_that_are_not_finite_are_refused(recipe, searched, tmp_path):
    save_scales(changed(searched, kxk_O=torch.full((16,), torch.inf)), tmp_path / "scales.safetensors")
    with pytest.raises(RepFoldError, match=r"stem\.kxk is not finite"):
        train(recipe.replace(model=TARGET, scales=str(tmp_path / "scales.safetensors")), tmp_path / "run")


def test_resuming_under_other_scales_is_refused(recipe, searched, tmp_path):
    recipe = recipe.replace(model=TARGET, scales=str(searched), epochs=1)
    train(recipe, tmp_path / "run")
    save_scales(changed(searched, kxk_O=torch.ones(16)), tmp_path / "run" / "scales.safetensors")
    with pytest.raises(RepFoldError, match="other scales"):
        train(recipe.replace(epochs=2), tmp_path / "run", resume=True, override=True)


def test_online_folding_of_norms_in_branches_is_refused(recipe, tmp_path):
    with pytest.raises(RepFoldError, match="is a BatchNorm inside a branch"):
        train(recipe.replace(online_fold=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_norms_train_under_rules_too(recipe, tmp_path):
    result = train(recipe.replace(model=TARGET, norm="group:4", epochs=1), tmp_path / "run")
    assert len(result.records) == 1


def test_resuming_with_damaged_rules_is_told(recipe, searched, tmp_path):
    recipe = recipe.replace(model=TARGET, scales=str(searched), epochs=1)
    train(recipe, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    for item in content["optimizer"]["rules"]:
        del item["shapes"]
    torch.save(content, path)
    with pytest.raises(RepFoldError, match=r"checkpoint\.pt cannot be read: its optimizer is not one's state"):
        train(recipe, tmp_path / "run", resume=True)
