"""A command that may be wrong: its words, and what is wrong in the directory that it is run in."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.sound import QUICK


@dataclass(frozen=True)
class Case:
    """A command, run in a directory of sound things after ``arrange`` spoilt some of them."""

    name: str
    arguments: tuple[str, ...]
    arrange: Callable[[Path], None] = lambda place: None


# What each verb takes at the least, and is content with.
SOUND: dict[str, list[str]] = {
    "advise": ["run"],
    "augment": ["images", "--preview", "out.png", "--images", "2", "--draws", "1"],
    "bench": ["plain.safetensors", "--rounds", "1", "--batch", "1", "--no-onnx"],
    "convert": ["run/best.safetensors", "-o", "out.pt", "--to", "timm"],
    "deploy": ["run", "-o", "out", "--rounds", "1", "--engines", "repfold"],
    "engine": ["info", "plain.safetensors"],
    "evaluate": ["run", "images", "--device", "cpu"],
    "completion": [],
    "export": ["run", "-o", "out.onnx"],
    "find-lr": ["images", *QUICK, "--steps", "10", "--plot", "out.svg"],
    "fold": ["run", "-o", "out.safetensors"],
    "models": [],
    "predict": ["run", "picture.png"],
    "profile": ["run"],
    "quantize": ["run", "-o", "out.onnx", "--images", "4"],
    "recipes": [],
    "report": ["run", "-o", "out.html"],
    "schedule": ["cosine", "--plot", "out.svg"],
    "study": ["report", "study.toml", "--out", "out"],
    "train": ["images", *QUICK, "--no-finish", "--out", "out"],
    "verify": ["run", "--steps", "2"],
}


def odd_files(place: Path) -> None:
    """Put a FIFO, a circle of links, an empty file, one of noise and a place that may not be written to."""
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to("loop")
    (place / "empty").write_bytes(b"")
    (place / "junk").write_bytes(random.Random(0).randbytes(3000))
    (place / "locked").mkdir(mode=0o000)


def writes(file: str, text: str) -> Callable[[Path], None]:
    """What puts a file of ``text`` in the place of another, or in a directory of its own."""

    def arrange(place: Path) -> None:
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).unlink(missing_ok=True)
        (place / file).write_text(text, encoding="utf-8")

    return arrange


def short(value: str) -> str:
    """A value as the name of a case shows it."""
    return ascii(value[:24])[1:-1] + ("..." if len(value) > 24 else "")
