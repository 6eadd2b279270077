"""The processor's name is one, wherever it is written."""

from __future__ import annotations

import platform
from pathlib import Path

from repfold import processor
from repfold.deploy import describe_machine
from repfold.train.record import environment


def test_a_run_and_a_timing_name_the_same_processor():
    assert environment()["cpu"] == processor.name()
    assert describe_machine()["processor"] == (processor.name() or "unknown")


def test_without_proc_the_platform_is_asked(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert processor.name() == "arm"
