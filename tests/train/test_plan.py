"""What is picked for a budget of minutes, on machines of known speeds."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from repfold.errors import RepFoldError
from repfold.train import Recipe, plan
from repfold.train.pace import Speed

# Seconds of an image of 64 px on a machine of speed 1: a training step's, then evaluation's.
COST = {"repvgg-pico": (0.0005, 0.0002), "repvgg-a0": (0.002, 0.0006), "resnet20-cifar": (0.001, 0.0003)}


@pytest.fixture
def machine(monkeypatch):
    """Returns a list: what was timed; its speed is set by ``timed.speed``."""

    class Timed(list):
        speed = 1.0

    timed = Timed()

    def rehearse(rung):
        timed.append(rung)
        train, evaluated = (cost * (rung.image_size / 64) ** 2 / timed.speed for cost in COST[rung.model])
        return Speed(64 * train, evaluated)

    monkeypatch.setattr("repfold.train.plan._stand_in", lambda recipe, rung, machine, found: rung)
    monkeypatch.setattr("repfold.train.plan.rehearse", rehearse)
    return timed


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """2 x 640 training and 2 x 64 validation images of 300 x 260 px, nearly all of them the same file."""
    folder = tmp_path_factory.mktemp("photos")
    Image.fromarray(np.zeros((260, 300, 3), dtype=np.uint8)).save(folder / "one.png")
    for part, count in (("train", 640), ("val", 64)):
        for name in ("a", "b"):
            (folder / "set" / part / name).mkdir(parents=True)
            for number in range(count):
                (folder / "set" / part / name / f"{number}.png").hardlink_to(folder / "one.png")
    return str(folder / "set")


def picked(photos, minutes, given=(), **fields):
    found = plan.plan(Recipe(data=photos, **fields), [*given, *fields], minutes)
    recipe = found.recipe
    return (recipe.model, recipe.image_size, recipe.epochs), found


@pytest.mark.parametrize(
    ("speed", "model", "size"), [(0.002, "repvgg-pico", 64), (0.1, "repvgg-a0", 64), (2, "repvgg-a0", 224)]
)
def test_the_faster_the_machine_the_larger_the_images_and_the_network(machine, photos, speed, model, size):
    machine.speed = speed
    (name, side, epochs), found = picked(photos, 20)
    assert (name, side) == (model, size)
    train, evaluated = (cost * (side / 64) ** 2 / speed for cost in COST[name])
    seconds = epochs * (1280 * train + (128 + 500) * evaluated)
    assert seconds <= 0.9 * 20 * 60 or epochs == 1
    assert epochs == 100 or seconds > 0.9 * 20 * 60 * (1 - 1 / epochs) or epochs == 1
    assert str(side) in found.reasons[0] and f"{epochs} epochs" in found.reasons[0]
    assert found.recipe.warmup == ("5ep" if epochs >= 25 else "20%")


def test_a_larger_budget_is_told_and_never_picks_less(machine, photos):
    machine.speed = 0.3
    sizes = [picked(photos, minutes)[0] for minutes in (5, 20, 60, 180)]
    assert [size for _, size, _ in sizes] == sorted(size for _, size, _ in sizes) and sizes[0] != sizes[-1]
    _, found = picked(photos, 20)
    (model, size, epochs), _ = picked(photos, 60)
    assert found.reasons[1] == f"--minutes 60 would take {model} on images of {size} px, {epochs} epochs"


def test_what_is_given_stays(machine, photos):
    (model, size, epochs), found = picked(photos, 20, model="repvgg-a0", image_size=100)
    assert (model, size) == ("repvgg-a0", 100) and epochs > 1 and len(machine) == 1
    machine.speed = 0.3
    (model, size, epochs), found = picked(photos, 20, model="repvgg-a0", epochs=40)
    assert (model, epochs) == ("repvgg-a0", 40) and 64 <= size < 224 and found.recipe.warmup == "0ep"
    assert picked(photos, 20, model="repvgg-a0", image_size=64, warmup="7ep")[1].recipe.warmup == "7ep"


def test_small_images_stay_as_they_are_and_get_a_network_for_them(machine):
    (model, size, epochs), _ = picked("digits", 20)
    assert (model, size, epochs) == ("resnet20-cifar", 8, 100)
    assert len(machine) == 2


def test_nothing_is_timed_where_nothing_is_to_pick(machine):
    recipe = Recipe(data="digits", model="repvgg-pico", preset="32px", epochs=3)
    found = plan.plan(recipe, ["model", "preset", "epochs"], 20)
    assert found.recipe is recipe and found.reasons == () and machine == []


def test_the_time_of_real_networks_is_taken():
    recipe = Recipe(data="digits", per_class=(20, 5), batch=32, threads=1, model="repvgg-pico", preset="32px")
    found = plan.plan(recipe, ["model", "preset", "per_class", "batch", "threads"], 0.05)
    assert 1 <= found.recipe.epochs <= 100 and found.recipe.train_sample == 500


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_that_are_none_are_refused(minutes):
    with pytest.raises(RepFoldError, match="--minutes"):
        plan.plan(Recipe(data="digits"), [], minutes)
