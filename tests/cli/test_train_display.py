"""What a training looks like where nobody watches: plain lines, at least every so often."""

from __future__ import annotations

from repfold.cli import train_display
from repfold.cli.console import Console
from repfold.cli.train_display import TrainDisplay
from repfold.train.events import Preparing


def test_a_log_tells_how_much_of_the_images_is_read(capsys, monkeypatch):
    now = iter([0.0, 1.0, 31.0, 31.0, 32.0])
    monkeypatch.setattr(train_display.time, "monotonic", lambda: next(now))
    display = TrainDisplay(Console())
    for done in (10, 50, 60):
        display(Preparing(done, 200))
    assert capsys.readouterr().out.splitlines() == ["images     25% read"]


def test_a_terminal_has_its_bar_instead(capsys, monkeypatch):
    monkeypatch.setattr(train_display, "_LINE_SECONDS", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    console = Console()
    assert console.is_terminal
    TrainDisplay(console)(Preparing(100, 200))
    assert "read" not in capsys.readouterr().out
