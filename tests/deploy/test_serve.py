"""The choice of an engine: the fastest of those that are accurate enough, each measured on the same images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from repfold import models
from repfold.data import DataSettings, open_source
from repfold.deploy import choose
from repfold.deploy.accuracy import accuracies
from repfold.deploy.candidates import Candidate
from repfold.errors import RepFoldError


@pytest.fixture(scope="module")
def plain(classifier) -> models.Model:
    return models.fold_model(classifier, torch.randn(1, 3, 32, 32))


@pytest.fixture
def loader(photos):
    source = open_source(DataSettings(photos, image_size=32, resize=36), parts=("val",))
    return source.loader("val", 7, train=False)


def pretended(plain, clock, **seconds):
    """Candidates that take so long; "wrong" names another class than the network."""

    def call(name, x_NCHW):
        clock.let_pass(seconds[name])
        with torch.inference_mode():
            logits = plain.network(torch.from_numpy(x_NCHW)).numpy()
        return -logits if name == "wrong" else logits

    candidates = [Candidate(name, "fp32", None, lambda x, name=name: call(name, x)) for name in seconds]
    return lambda *_, **__: (candidates, {"other": "is not there"})


@pytest.fixture
def stand_ins(plain, clock, monkeypatch):
    """Engines with known times in place of the real ones."""
    monkeypatch.setattr("repfold.deploy.serve.has_onnx", lambda: False)
    monkeypatch.setattr("repfold.deploy.candidates.title", lambda engine, precision: engine)
    return lambda **seconds: monkeypatch.setattr("repfold.deploy.serve.prepare", pretended(plain, clock, **seconds))


def test_the_fastest_that_is_accurate_enough_wins(plain, loader, stand_ins, tmp_path):
    stand_ins(slow=2**-6, wrong=2**-10, quick=2**-8)
    choice, chosen = choose(plain, loader, tmp_path, rounds=3, threads=1)
    assert (chosen.engine, choice.winner.engine) == ("quick", "quick") and choice.overlapping == ()
    assert [row.engine for row in choice.rows] == ["wrong", "quick", "slow"]
    assert "points of top-1" in choice.rows[0].refused
    assert choice.winner.accuracy.top1 == choice.reference.top1 and choice.reference.images == 18
    allowed, _ = choose(plain, loader, tmp_path, rounds=3, threads=1, max_drop=100)
    assert allowed.winner.engine == "wrong"


def test_times_that_overlap_are_told(plain, loader, stand_ins, tmp_path):
    stand_ins(slow=2**-6, quick=2**-8, repfold=2**-8)
    choice, _ = choose(plain, loader, tmp_path, rounds=5, threads=1)
    assert {choice.winner.engine, *choice.overlapping} == {"quick", "repfold"} and len(choice.overlapping) == 1


def test_accuracy_is_counted_as_by_hand_and_nan_is_never_right(plain, loader, photos):
    labels = np.repeat([0, 1, 2], 6)
    calls = {
        "first": lambda x: np.tile(np.float32([1, 0, 0]), (len(x), 1)),
        "same": lambda x: np.tile(np.float32([2, 1, 0]), (len(x), 1)),
        "nan": lambda x: np.full((len(x), 3), np.nan, np.float32),
    }
    found = accuracies(calls, loader, plain.description.preprocessing)
    assert found["first"].top1 == pytest.approx(100 * (labels == 0).mean()) == found["same"].top1
    assert (found["same"].same, found["nan"].top1, found["first"].images) == (100, 0, 18)


def test_what_makes_no_sense_is_refused_before_anything_is_made(plain, loader, tmp_path):
    unknown = models.Model(plain.network, replace(plain.description, preprocessing=None))
    for model, settings, message in (
        (plain, {"batch": 0}, "--batch 0"),
        (plain, {"threads": 10**6}, "threads"),
        (plain, {"max_drop": float("nan")}, "--max-drop"),
        (plain, {"engines": ("openvin",)}, "Did you mean 'openvino'"),
        (unknown, {}, "preprocessed"),
    ):
        with pytest.raises(RepFoldError, match=message):
            choose(model, loader, tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []
