"""A study of trials that take half a second: 40 digits, one epoch of the smallest network, bit-reproducible."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from repfold.study import study_file
from repfold.study.events import Begun, Ended
from repfold.study.run_study import Resources, run_study
from repfold.study.store import Store

TINY = """
name = "tiny"
recipe = "digits"
seeds = [0, 1]
reference = "none"
metric = "val_top1"
[settings]
per_class = [4, 4]
epochs = 1
batch = 20
precision = "fp32"
device = "cpu"
warmup = "0"
[arms.none]
[arms.low]
lr = 0.001
"""


class Heard(list):
    """The events of a study, and what they say."""

    def __call__(self, event):
        self.append(event)

    @property
    def ended(self):
        """Which trials came to an end, and how."""
        return {event.trial.label: event.how for event in self if isinstance(event, Ended)}

    @property
    def begun(self):
        return next(event for event in self if isinstance(event, Begun))


def run(text, place: Path, **resources):
    """Run the study of ``text`` with the trials in ``place``; return it, its store and what was heard."""
    study, store, heard = study_file.parse(text), Store(place), Heard()
    run_study(study, store, Resources(**{"jobs": 2, "threads": 1, **resources}), heard)
    return study, store, heard


def wait_for(condition, seconds=300.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it takes for ever"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The tiny study, run once: its directory of trials, which tests copy before they change it."""
    place = tmp_path_factory.mktemp("study") / "trials"
    study, store, heard = run(TINY, place)
    return study, store, heard
