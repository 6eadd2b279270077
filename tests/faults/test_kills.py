"""Trainings killed at random moments end at the same bits; ``kills.py`` beside this does so by the hundred."""

from __future__ import annotations

import random

import pytest
from tests.faults.kills import KINDS, chain, descendants, differences, finish, spans_of

STAGES = {"sgd, mixup": ("checkpoint", "fold")}


@pytest.mark.parametrize("name", STAGES)
def test_killed_trainings_end_as_if_they_had_not_been(tmp_path, name):
    kind, undisturbed = KINDS[name], tmp_path / "undisturbed"
    spans = spans_of(finish(kind, undisturbed, tmp_path))
    died, odd = chain(kind, undisturbed, tmp_path, STAGES[name], spans, random.Random(0))
    assert odd == []
    assert len(died) >= len(STAGES[name]) - 1, "at most one ended before it was reached"
    weights = bytearray((tmp_path / "run" / "best.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "run" / "best.safetensors").write_bytes(weights)
    (tmp_path / "run" / ".best.abcd1234.safetensors").touch()
    assert differences(tmp_path / "run", undisturbed) == [
        "best.safetensors",
        ".best.abcd1234.safetensors is left over",
    ]


def test_processes_of_processes_are_found():
    assert descendants(1) != [] and 1 not in descendants(1)
