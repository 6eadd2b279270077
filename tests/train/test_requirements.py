"""Before the first step a run says what the machine is short of, with figures, and refuses what cannot work."""

from __future__ import annotations

import re
import resource
import shutil
from collections import namedtuple

import pytest
import torch

from repfold import allowance
from repfold.errors import RepFoldError
from repfold.train import requirements, train
from repfold.train.assemble import assemble
from repfold.train.distributed import Ranks
from repfold.train.events import Note, ignore
from repfold.train.machine import choose
from repfold.train.settings import resolve

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def run(recipe):
    return assemble(resolve(recipe), choose(recipe), Ranks(), ignore)


def test_enough_of_everything_is_not_told(run, tmp_path):
    assert requirements.check(run, tmp_path / "run") == []


def test_the_estimate_covers_what_a_run_writes(recipe, run, tmp_path):
    train(recipe, tmp_path / "run")
    written = sum(path.stat().st_size for path in (tmp_path / "run").iterdir())
    checkpoint = (tmp_path / "run" / "checkpoint.pt").stat().st_size
    needs = requirements.estimate(run)
    assert needs.first_files < written < needs.files < 6 * checkpoint + (16 << 20)


def test_the_estimate_of_a_step_is_what_its_forward_pass_keeps(run):
    """Against a count by hand: the outputs of the layers whose values their gradients need."""
    needs = requirements.estimate(run)
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _, x, y: seen.append(y))
        for layer in run.parts.network.modules()
        if not list(layer.children())
    ]
    before = {name: value.clone() for name, value in run.parts.network.state_dict().items()}
    run.parts.network(torch.zeros(run.settings.batch, 1, 8, 8))
    for hook in hooks:
        hook.remove()
    run.parts.network.load_state_dict(before)
    outputs = sum(y.numel() * y.element_size() for y in seen)
    assert outputs / 2 < needs.step < 3 * outputs + 3 * sum(v.numel() * 4 for v in before.values())


def test_the_estimate_changes_nothing(run):
    before = {name: value.clone() for name, value in run.parts.network.state_dict().items()}
    state = torch.random.get_rng_state()
    requirements.estimate(run)
    assert all(torch.equal(value, before[name]) for name, value in run.parts.network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state) and run.parts.network.training


def test_a_disk_that_will_be_full_is_told_and_one_that_is_full_refused(recipe, run, tmp_path, monkeypatch):
    needs = requirements.estimate(run)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, needs.first_files + 1000))
    (told,) = requirements.check(run, tmp_path / "run")
    assert (
        re.search(r"run has room for 1\.3\d MB; the run's files will take about 1\d MB more", told) and "--out" in told
    )
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, 1000))
    with pytest.raises(RepFoldError, match=r"run has room for 1 kB, .*Make room"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_fit_is_told(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(requirements.allowance, "free_memory", lambda: 1_000_000)
    notes: list[str] = []
    train(
        recipe.replace(epochs=1),
        tmp_path / "run",
        on_event=lambda event: notes.append(event.text) if isinstance(event, Note) else None,
    )
    assert any("A step of 32 images will take about" in note and "1 MB are free" in note for note in notes)


def test_too_few_open_files_are_allowed_or_told(run, tmp_path, monkeypatch):
    limits = {"now": (10, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda kind, given: limits.update(now=given))
    assert requirements.check(run, tmp_path) == [] and limits["now"][0] > 32
    limits["now"] = (10, 10)
    (told,) = requirements.check(run, tmp_path)
    assert "10 files may be open at once" in told and "ulimit -n 1024" in told


def test_more_threads_than_cores_are_told(run, tmp_path, monkeypatch):
    monkeypatch.setattr(allowance, "cores", lambda: 0)
    (told,) = requirements.check(run, tmp_path)
    assert told.startswith("1 thread on 0 cores")
