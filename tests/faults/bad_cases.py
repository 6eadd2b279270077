"""Tables of what can be wrong with a command: its words, and the files that it is given."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.faults.sound import PICTURES, QUICK, STUDY

from repfold.train.recipe import Recipe, field_types

LONG, DEEP = "n" * 300, 100_000
SURROGATE, ESCAPES = "na\udcffme", "\x1b[31mred\x07\r"


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

WHOLE = ["abc", "1.5", "-1", "0", "", "nan", "9" * 400, "100000000", "-9223372036854775809", "1e9", "0x10", "٣"]
REAL = ["abc", "", "nan", "inf", "-inf", "1e400", "-1", "0", "1e-320", "9" * 400, "1,5"]
SHAPES = ["", "x", "1,3", "0,0,0,0", "1,3,-5,5", "1,3,100000000,100000000", "1,3," + "9" * 30 + ",1", "1x3xx5", "nan"]
TEXT = ["", "???", ":::", "a" * 10_000, "(" * 5000, "x=", "=", SURROGATE, ESCAPES, "🦜", "1e400", "none:x=1", "-"]
PLACES = [
    "run",
    "/proc/nowhere/out",
    "picture.png/out",
    LONG,
    "loop/out",
    SURROGATE,
    ESCAPES,
    "",
    ".",
    "fifo",
    "locked/out",
]
FILES = [
    "missing",
    "",
    ".",
    "fifo",
    "empty",
    "loop",
    "/dev/null",
    "/proc/self/mem",
    LONG,
    SURROGATE,
    ESCAPES,
    "picture.png",
    "junk",
]

ENGINES = ["torch", "torch.compile", "repfold", "onnxruntime", "openvino", "ncnn"]

# verb -> flag -> what it may be given. What is right but takes for ever (10^8 rounds) is left out.
FLAGS: dict[str, dict[str, list[str]]] = {
    "advise": {"--plot": [place + ".svg" for place in PLACES] + ["out", "out.xyz"]},
    "augment": {
        "--preview": [place + ".png" for place in PLACES] + ["out.xyz"],
        **{flag: WHOLE for flag in ("--images", "--image-size", "--seed")},
        "--draws": [value for value in WHOLE if value != "1e9"],
        **{flag: REAL for flag in ("--mixup", "--cutmix")},
        "--augment": TEXT,
    },
    "bench": {
        "--batch": WHOLE,
        "--rounds": [value for value in WHOLE if value != "100000000"],
        "--threads": [value for value in WHOLE if value != "100000000"],
        "--example": SHAPES,
        "--weights": FILES,
        "--num-classes": WHOLE,
        "--engines": TEXT[:4],
        "--plot": [place + ".svg" for place in PLACES] + ["out.xyz"],
        "-o": PLACES,
    },
    "convert": {"-o": [place + ".pt" for place in PLACES] + ["out.xyz", "out"], "--to": TEXT, "--preset": TEXT},
    "deploy": {
        "-o": PLACES,
        "--batch": ["abc", "-1", "0", "9" * 400],
        "--max-drop": REAL,
        "--engines": TEXT[:4],
        "--int8": FILES,
        "--data": FILES,
        "--licence": TEXT,
    },
    "engine": {"--batch": WHOLE, "--image-size": WHOLE, "--threads": [v for v in WHOLE if v != "100000000"]},
    "evaluate": {
        "--batch": WHOLE,
        **{flag: TEXT[:5] for flag in ("--form", "--part", "--device", "--precision")},
        "--factory": TEXT,
        "--engine": [*TEXT[:5], *ENGINES],
    },
    "export": {"-o": [p + ".onnx" for p in PLACES] + ["out", "out.xyz"], "--example": SHAPES, "--factory": TEXT[:5]},
    "find-lr": {
        "--low": REAL,
        "--high": REAL,
        "--steps": [value for value in WHOLE if value != "100000000"],
        "--plot": [place + ".svg" for place in PLACES] + ["out.xyz"],
        "--recipe": FILES,
    },
    "fold": {
        "-o": [place + ".safetensors" for place in PLACES] + ["out", "out.xyz"],
        "--certificate": PLACES,
        "--example": SHAPES,
        "--weights": FILES,
        "--num-classes": WHOLE,
        "--policy": TEXT[:5],
        "--factory": TEXT,
    },
    "predict": {
        "--top": WHOLE,
        "--model": FILES,
        "--factory": TEXT[:6],
        "--engine": [*TEXT[:5], *ENGINES],
        "--csv": [place + ".csv" for place in PLACES] + ["images", "fifo"],
        "--max-pixels": WHOLE,
    },
    "profile": {"--image-size": WHOLE, "--example": SHAPES, "--weights": FILES, "--num-classes": WHOLE},
    "completion": {"": TEXT + FILES},
    "models": {"": TEXT + FILES},
    "quantize": {"-o": [p + ".onnx" for p in PLACES] + ["out"], "--images": WHOLE, "--data": FILES},
    "recipes": {"": TEXT + FILES},
    "report": {"-o": PLACES, "--csv": [place + ".csv" for place in PLACES] + ["images", "fifo"]},
    "schedule": {
        "--lr": REAL,
        "--epochs": REAL,
        "--steps-per-epoch": WHOLE,
        "--warmup": TEXT,
        "--warmup-shape": TEXT[:4],
        "--plot": [place + ".svg" for place in PLACES] + ["out.xyz"],
        "": TEXT,
    },
    "study": {
        "--out": PLACES,
        "--trials": PLACES,
        "--scale": TEXT[:5],
        "--data": [*FILES, "images"],
        "--export": [place + ".csv" for place in PLACES] + ["out", "out.xyz"],
    },
    "verify": {"--steps": WHOLE, "--factory": TEXT[:5]},
    "train": {
        **{flag: FILES for flag in ("--recipe", "--init", "--teacher", "--scales")},
        "--out": PLACES,
        "--tensorboard": TEXT[:5],
    },
}
# Fields of recipes whose large values are right, and train for ever or on as many threads.
LASTING = {"epochs", "threads"}


def flags() -> Iterator[Case]:
    """Every flag with every value of its kind that is wrong, strange or extreme."""
    for verb, kinds in FLAGS.items():
        for flag, values in kinds.items():
            for value in values:
                words = [*SOUND[verb], *([flag, value] if flag else [value])]
                yield Case(f"{verb} {flag} {_short(value)}", (verb, *words), odd_files)
    for place in ("picture.png", "/proc/nowhere", "loop", "picture.png/out", LONG):
        yield Case(f"demo --out {_short(place)}", ("demo", "--out", place), odd_files)


def settings() -> Iterator[Case]:
    """Every field of a recipe with values that are wrong, strange or extreme, as flags and in files."""
    told = {"data", "recipe", "init", "teacher", "scales", *(flag[2:].replace("-", "_") for flag in QUICK[::2])}
    for field in dataclasses.fields(Recipe):
        kind = field_types()[field.name]
        values = _values(kind)
        for value in values:
            if field.name in LASTING and value in ("100000000", "1e9"):
                continue
            several = [value] * (2 if typing.get_origin(kind) is tuple else 1)
            if field.name != "data":
                flag = f"--{field.name.replace('_', '-')}"
                yield Case(f"train {flag} {_short(value)}", ("train", *SOUND["train"], flag, *several), odd_files)
        if field.name in told and field.name != "data":
            continue
        for value in ("nan", "-inf", "[]", "{}", "1979-05-27", "[[1]]", '"\\u0000"', "9" * 400, "true", '"🦜"', "-1"):
            text = f"{field.name} = {value}\n"
            yield Case(
                f"recipe {text.strip()[:60]}",
                ("find-lr", *SOUND["find-lr"], "--recipe", "a.toml"),
                _writes("a.toml", text),
            )


def positions() -> Iterator[Case]:
    """Each positional argument replaced by something else, left out, or given twice."""
    for verb, words in SOUND.items():
        yield Case(f"{verb} alone", (verb,))
        yield Case(f"{verb} --unknown", (verb, *words, "--unknown"))
        if not words or words[0] == "cosine":
            continue
        at = 1 if verb in ("engine", "study") else 0
        for value in (
            *FILES,
            "images",
            "cifar",
            "idx",
            "locked",
            "checkpoint.pt",
            "run/recipe.toml",
            "run/record.jsonl",
        ):
            changed = [*words[:at], value, *words[at + 1 :]]
            yield Case(f"{verb} on {_short(value)}", (verb, *changed), odd_files)
    for value in (*FILES, "images", "cifar", "idx"):
        yield Case(f"predict run {_short(value)}", ("predict", "run", value), odd_files)
        yield Case(f"evaluate run {_short(value)}", ("evaluate", "run", value), odd_files)


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
    deep = "[" * DEEP + "]" * DEEP
    for file in ("certificate.json", "timings.json", "confusion.json", "record.jsonl", "environment.json"):
        for name, text in (("nested", deep), ("nan", '{"a": NaN}'), ("huge", '{"epoch": ' + "9" * 5000 + "}")):
            yield Case(f"report with {file} {name}", ("report", "run", "-o", "out.html"), _writes(f"run/{file}", text))
            yield Case(f"advise with {file} {name}", ("advise", "run"), _writes(f"run/{file}", text))


def budgets() -> Iterator[Case]:
    """Minutes that are none, or that exclude what is given beside them."""
    words = list(SOUND["train"])
    at = words.index("--epochs")
    del words[at : at + 2]
    for value in (*REAL, "0.0001"):
        yield Case(f"train --minutes {_short(value)}", ("train", *words, "--minutes", value), odd_files)
    yield Case("train --minutes and --epochs", ("train", *SOUND["train"], "--minutes", "1"))
    yield Case("train --minutes without data", ("train", "--minutes", "1"))
    yield Case("train --minutes of junk", ("train", "junk", "--minutes", "1"), odd_files)


def engines() -> Iterator[Case]:
    """Every engine on files that are not its own, and on ones that are spoilt."""
    for engine in ENGINES:
        for file in ("run", "plain.safetensors", "model.onnx", "junk", "empty", "fifo", "picture.png", "images"):
            for command in (("predict", file, "picture.png"), ("evaluate", file, "images")):
                words = (*command, "--engine", engine, "--precision", "bf16")
                yield Case(f"{command[0]} {file} by {engine}", words, odd_files)


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


def studies() -> Iterator[Case]:
    """The file of a study with each of its keys gone, of another kind, or misspelt, and with parts that do not fit."""
    for line in STUDY.splitlines():
        key, equals, _ = line.partition(" = ")
        values = ["nan", "[]", "{}", "-1", "true", '""', '"\\u0000"', "[[1]]", "9" * 400, '"🦜"'] if equals else []
        texts = {
            f"without {line}": STUDY.replace(line, "", 1),
            f"twice {line}": STUDY.replace(line, f"{line}\n{line}", 1),
        }
        texts |= {f"{key} = {value[:9]}": STUDY.replace(line, f"{key} = {value}", 1) for value in values}
        texts |= {f"misspelt {key}": STUDY.replace(line, f"{key}x = 1", 1)} if equals else {}
        for name, text in texts.items():
            yield Case(f"study {name}", ("study", *SOUND["study"]), _writes("study.toml", text))
    for more in (
        "[axes]\nlr = []\n",
        "[axes]\nlr = [0.1, 0.1]\n",
        "[axes]\nepoch = [1]\n",
        "[axes]\nlr = 1\n",
        "[arms.half2]\nwarmup = '50%'\n",
        "[before.x]\nlr = -1\n",
        "[scales.tiny]\n",
        "[scales.small]\nseeds = []\n",
        "[[published]]\narm = 'none'\n",
        "[claims]\nother = 'x'\n",
        "[arms.own]\nmodel = 'os:system'\n",
    ):
        yield Case(f"study with {_short(more)}", ("study", *SOUND["study"]), _writes("study.toml", STUDY + more))
    for verb in (
        ("run", "study.toml", "--jobs", "-1"),
        ("run", "study.toml", "--hours", "nan"),
        ("show", "x"),
        ("lst",),
    ):
        yield Case(f"study {' '.join(verb)}", ("study", *verb))
    for other in ("{}", "[]", '{"name": "another"}', '{"name": 3, "trials": null}', "nonsense"):
        yield Case(f"study in {_short(other)}", ("study", *SOUND["study"]), _writes_below("out/study.json", other))
        yield Case(f"study of {_short(other)}", ("study", "report", "out"), _writes_below("out/study.json", other))


GROUPS = (flags, settings, positions, files, contents, studies, budgets, engines, event_files)


def all_cases() -> list[Case]:
    """Every case, in an order that is always the same."""
    return [case for cases in GROUPS for case in cases()]


def odd_files(place: Path) -> None:
    """Put a FIFO, a circle of links, an empty file, one of noise and a place that may not be written to."""
    os.mkfifo(place / "fifo")
    (place / "loop").symlink_to("loop")
    (place / "empty").write_bytes(b"")
    (place / "junk").write_bytes(random.Random(0).randbytes(3000))
    (place / "locked").mkdir(mode=0o000)


def _values(kind: Any) -> list[str]:
    if typing.get_origin(kind) is Literal:
        return ["", "???"]
    first = (typing.get_args(kind) or (kind,))[0]
    return {int: WHOLE, float: REAL, str: TEXT, bool: []}[first]


def _writes(file: str, text: str) -> Callable[[Path], None]:
    def arrange(place: Path) -> None:
        (place / file).unlink(missing_ok=True)
        (place / file).write_text(text, encoding="utf-8")

    return arrange


def _writes_below(file: str, text: str) -> Callable[[Path], None]:
    def arrange(place: Path) -> None:
        (place / file).parent.mkdir()
        (place / file).write_text(text, encoding="utf-8")

    return arrange


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


def _short(value: str) -> str:
    return ascii(value[:24])[1:-1] + ("..." if len(value) > 24 else "")
