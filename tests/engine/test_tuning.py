"""Algorithms chosen by timing them: what is asked for of each layer is done, and what was found is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.engine.engine_models import images, plain_network, relative_error

from repfold import engine
from repfold.engine import tuning

SHAPE = (1, 3, 16, 16)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plain_network(tmp_path / "m.safetensors", images(*SHAPE), (16, 48, 32))
    return tmp_path / "m.safetensors"


def algorithms(loaded: engine.Engine) -> dict[str, str]:
    layers = loaded.plan(*SHAPE)["layers"]
    return {layer["name"]: layer["algorithm"] for layer in layers if "multiply_adds" in layer}


def convolutions(model: Path) -> list[str]:
    """The layers that Winograd can compute."""
    return [name for name, chosen in algorithms(engine.load(model, convolution="2x2")).items() if "F(2x2" in chosen]


def test_each_layer_is_computed_as_it_is_asked_for(model: Path) -> None:
    names = convolutions(model)
    assert len(names) >= 2
    usual = engine.load(model)
    asked = dict(zip(names, ("direct", "4x4", "3x3"), strict=False))
    chosen = engine.load(model, convolution=tuning.as_text(asked))
    of_2x2 = algorithms(engine.load(model, convolution="2x2"))
    told = {name: "direct" if a == "direct" else of_2x2[name].replace("2x2", a) for name, a in asked.items()}
    assert algorithms(chosen) == algorithms(usual) | told
    assert any(a.endswith("/2)") for a in told.values()) and any(a.endswith("x3)") for a in told.values())
    x = images(*SHAPE)
    assert relative_error(chosen(x), usual(x)) < 1e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("auto\nconv 7x7", "unknown convolution '7x7'"),
        ("auto\nconv", "does not name"),
        ("auto\nconv ", "unknown"),
        ("9", "'9'"),
    ],
)
def test_what_is_no_choice_is_refused(text: str, message: str, model: Path) -> None:
    with pytest.raises(engine.EngineError, match=message):
        engine.load(model, convolution=text)


def test_the_seconds_of_the_layers_are_those_of_the_plan(model: Path) -> None:
    for threads in (1, 2):
        loaded = engine.load(model, threads=threads)
        seconds = loaded.time_layers(images(*SHAPE))
        assert len(seconds) == len(loaded.plan(*SHAPE)["layers"]) and (seconds >= 0).all() and 0 < seconds.sum() < 1


def slow_but(fast: dict[str, str]):
    """An engine whose layers take a second, but those computed as ``fast`` says a tenth; calls as long as told."""

    class Timed:
        def __init__(self, text: str) -> None:
            first, *lines = text.split("\n")
            self.chosen = dict.fromkeys(fast, first) | dict(line.rsplit(" ", 1) for line in lines)

        def __call__(self, images_NCHW: object) -> None:
            Timed.now += sum(self.time_layers(images_NCHW))

        def plan(self, *sizes: int) -> dict[str, object]:
            return {"layers": [{"name": name, "multiply_adds": 1.0} for name in fast] + [{"name": "pool"}]}

        def time_layers(self, images_NCHW: object) -> np.ndarray:
            return np.array([0.1 if self.chosen[name] == fast[name] else 1.0 for name in fast] + [0.5])

        now = 0.0

    return Timed


def test_the_fastest_of_each_layer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = slow_but({"one": "4x4", "two": "direct", "three": "auto"})
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: timed.now)
    shares: list[float] = []
    found = tuning.find(timed, "fp32", SHAPE, shares.append)
    assert found.choices == {"one": "4x4", "two": "direct"}
    assert (found.usual_ms, found.tuned_ms) == pytest.approx((2600.0, 800.0))
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_choices_that_make_the_network_no_faster_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = slow_but({"one": "4x4"})
    monkeypatch.setattr(timed, "__call__", lambda self, images_NCHW: None)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: 0.0)
    assert tuning.find(timed, "fp32", SHAPE, lambda share: None).choices == {}


def test_what_was_found_is_kept_and_used(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *_ = convolutions(model)
    monkeypatch.setattr(tuning, "find", lambda *arguments: engine.Tuning({name: "3x3"}, 2.0, 1.0))
    assert "F(3x3" in algorithms(engine.load(model, threads=1, tuned=True))[name]
    (file,) = (tmp_path / "cache" / "repfold" / "tuned").iterdir()
    assert json.loads(file.read_text()) == {"choices": {name: "3x3"}, "milliseconds": [2.0, 1.0]}
    monkeypatch.setattr(tuning, "find", None)  # not again
    assert "F(3x3" in algorithms(engine.load(model, threads=1, tuned=True))[name]
    monkeypatch.setattr(tuning, "find", lambda *arguments: engine.Tuning({}, 1.0, 1.0))
    for damage in ("", "[]", '{"choices": 3}', '{"choices": {}, "milliseconds": [1]}'):
        file.write_text(damage)
        assert algorithms(engine.load(model, threads=1, tuned=True)) == algorithms(engine.load(model, threads=1))
    with pytest.raises(engine.EngineError, match="tuned chooses"):
        engine.load(model, tuned=True, convolution="direct")
    with pytest.raises(engine.EngineError):
        engine.load(tmp_path / "absent.safetensors", tuned=True)


@pytest.mark.parametrize("shape", [(0, 3, 16, 16), (-1, 3, 16, 16), (1, 3, -5, 16), (2**40, 3, 16, 16), (1, 4, 16, 16)])
def test_sizes_that_make_no_sense_are_refused(shape: tuple[int, int, int, int], model: Path) -> None:
    with pytest.raises(engine.EngineError):
        engine.tune(model, shape=shape, threads=1)


def test_a_real_tuning_leaves_the_network_as_exact(model: Path) -> None:
    found = engine.tune(model, threads=1)
    assert set(found.choices.values()) <= set(tuning.ALGORITHMS["fp32"]) and min(found.usual_ms, found.tuned_ms) > 0
    x = images(2, 3, 20, 20)
    assert relative_error(engine.load(model, threads=1, tuned=True)(x), engine.load(model, threads=1)(x)) < 1e-5
