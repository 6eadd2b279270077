"""What can be wrong with the files that a command reads: spoilt, exchanged, absurd."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.case import SOUND, Case, writes
from tests.faults.sound import PICTURES

# What reads each kind of file.
READERS: dict[str, list[tuple[str, ...]]] = {
    "plain.safetensors": [
        ("predict", "plain.safetensors", "picture.png"),
        ("engine", "info", "plain.safetensors"),
        ("profile", "plain.safetensors"),
        ("fold", "plain.safetensors", "-o", "out.safetensors"),
        ("convert", "plain.safetensors", "-o", "out.pt", "--to", "original"),
        ("train", *SOUND["train"], "--init", "plain.safetensors"),
    ],
    "model.onnx": [("profile", "model.onnx"), ("fold", "model.onnx", "-o", "out.onnx", "--example", "1,3,16,16")],
    "checkpoint.pt": [("convert", "checkpoint.pt", "-o", "out.safetensors")],
    "run/checkpoint.pt": [("train", "--resume", "--out", "run", "--no-finish"), ("verify", *SOUND["verify"])],
    "run/best.safetensors": [("verify", *SOUND["verify"]), ("evaluate", "run"), ("report", "run", "-o", "out.html")],
    "run/recipe.toml": [
        ("evaluate", "run"),
        ("report", "run", "-o", "out.html"),
        ("advise", "run"),
        ("find-lr", "--recipe", "run", "--steps", "10", "--plot", "out.svg"),
    ],
    "run/record.jsonl": [("report", "run", "-o", "out.html"), ("advise", "run")],
    **{
        f"run/{name}.json": [("report", "run", "-o", "out.html")]
        for name in ("certificate", "timings", "confusion", "environment")
    },
    **{f"picture.{suffix}": [("predict", "run", f"picture.{suffix}")] for suffix in PICTURES},
    "images/train/dark/0.png": [("augment", *SOUND["augment"]), ("train", *SOUND["train"])],
    "images/val/light/1.jpg": [("evaluate", "run", "images"), ("train", *SOUND["train"], "--skip-broken")],
    "idx/train-images-idx3-ubyte.gz": [("augment", "idx", "--preview", "out.png")],
    "idx/train-labels-idx1-ubyte": [("augment", "idx", "--preview", "out.png")],
    "cifar/data_batch_3": [("augment", "cifar", "--preview", "out.png")],
    "cifar/batches.meta": [("augment", "cifar", "--preview", "out.png")],
}
DAMAGES = 14  # of each file for each reader


def files() -> Iterator[Case]:
    """Every kind of file cut short, with flipped bits, emptied, exchanged, or no file at all, for all that reads it."""
    for file, commands in READERS.items():
        for command in commands:
            for number in range(DAMAGES):
                damage = list(_DAMAGES)[min(number, len(_DAMAGES) - 1)]
                name = f"{command[0]} with {file} {damage} ({number})"
                yield Case(name, command, _spoils(file, damage, number))


def contents() -> Iterator[Case]:
    """The JSON files of a run with each of their values exchanged for one of another kind."""
    values: dict[str, Any] = {"number": 7, "text": "x", "nothing": None, "list": [1], "object": {}, "huge": 10**400}
    for file in ("certificate", "timings", "confusion", "environment"):
        for place in range(5):
            for kind, value in values.items():
                name = f"report with {file}.json value {place} a {kind}"
                yield Case(name, ("report", "run", "-o", "out.html"), _exchanges(f"run/{file}.json", place, value))
    deep = "[" * 100_000 + "]" * 100_000
    for file in ("certificate.json", "timings.json", "confusion.json", "record.jsonl", "environment.json"):
        for name, text in (("nested", deep), ("nan", '{"a": NaN}'), ("huge", '{"epoch": ' + "9" * 5000 + "}")):
            yield Case(f"report with {file} {name}", ("report", "run", "-o", "out.html"), writes(f"run/{file}", text))
            yield Case(f"advise with {file} {name}", ("advise", "run"), writes(f"run/{file}", text))


def event_files() -> Iterator[Case]:
    """Event files of TensorBoard that are something else."""
    words = ("train", "--resume", "--out", "run", "--override", "--epochs", "2", "--no-finish", "--tensorboard")
    name = "run/events.out.tfevents.1.here.2.0"
    arranged: dict[str, Callable[[Path], Any]] = {
        "noise": lambda place: (place / name).write_bytes(b"noise" * 99),
        "a directory": lambda place: (place / name).mkdir(),
        "a FIFO": lambda place: os.mkfifo(place / name),
        "a circle": lambda place: (place / name).symlink_to(Path(name).name),
    }
    for what, arrange in arranged.items():
        yield Case(f"event files that are {what}", words, arrange)
        yield Case(f"event files that are {what}, not asked for", words[:-1], arrange)


def _exchanges(file: str, at: int, value: Any) -> Callable[[Path], None]:
    def arrange(place: Path) -> None:
        content = json.loads((place / file).read_text())
        keys = list(content)
        content[keys[at % len(keys)]] = value
        (place / file).unlink()
        (place / file).write_text(json.dumps(content))

    return arrange


def _spoils(file: str, damage: str, seed: int) -> Callable[[Path], None]:
    def arrange(place: Path) -> None:
        path = place / file
        content = path.read_bytes()
        path.unlink()
        _DAMAGES[damage](path, content, random.Random(seed))

    return arrange


def _flip(path: Path, content: bytes, draw: random.Random, share: float) -> None:
    changed = bytearray(content)
    for _ in range(3):
        changed[draw.randrange(max(1, int(len(changed) * share)))] ^= 1 << draw.randrange(8)
    path.write_bytes(changed)


_DAMAGES: dict[str, Callable[[Path, bytes, random.Random], Any]] = {
    "missing": lambda path, content, draw: None,
    "empty": lambda path, content, draw: path.write_bytes(b""),
    "a directory": lambda path, content, draw: path.mkdir(),
    "a FIFO": lambda path, content, draw: os.mkfifo(path),
    "a circle": lambda path, content, draw: path.symlink_to(path.name),
    "noise": lambda path, content, draw: path.write_bytes(draw.randbytes(len(content))),
    "zeros": lambda path, content, draw: path.write_bytes(bytes(len(content))),
    "begun as a picture": lambda path, content, draw: path.write_bytes(b"\x89PNG\r\n\x1a\n" + content[8:]),
    "one byte short": lambda path, content, draw: path.write_bytes(content[:-1]),
    "cut short": lambda path, content, draw: path.write_bytes(content[: draw.randrange(1, len(content))]),
    "with a tail": lambda path, content, draw: path.write_bytes(content + draw.randbytes(100)),
    "flipped at the head": lambda path, content, draw: _flip(path, content, draw, 0.02),
    "flipped anywhere": lambda path, content, draw: _flip(path, content, draw, 1.0),
}
