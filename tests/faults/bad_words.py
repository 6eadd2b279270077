"""What can be wrong with the words of a command: flags, fields of recipes, positional arguments."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, Literal

from tests.faults.case import SOUND, Case, odd_files, short, writes
from tests.faults.sound import QUICK

from repfold.train.recipe import Recipe, field_types

LONG = "n" * 300
SURROGATE, ESCAPES = "na\udcffme", "\x1b[31mred\x07\r"
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
                yield Case(f"{verb} {flag} {short(value)}", (verb, *words), odd_files)
    for place in ("picture.png", "/proc/nowhere", "loop", "picture.png/out", LONG):
        yield Case(f"demo --out {short(place)}", ("demo", "--out", place), odd_files)


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
                yield Case(f"train {flag} {short(value)}", ("train", *SOUND["train"], flag, *several), odd_files)
        if field.name in told and field.name != "data":
            continue
        for value in ("nan", "-inf", "[]", "{}", "1979-05-27", "[[1]]", '"\\u0000"', "9" * 400, "true", '"🦜"', "-1"):
            text = f"{field.name} = {value}\n"
            yield Case(
                f"recipe {text.strip()[:60]}",
                ("find-lr", *SOUND["find-lr"], "--recipe", "a.toml"),
                writes("a.toml", text),
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
            yield Case(f"{verb} on {short(value)}", (verb, *changed), odd_files)
    for value in (*FILES, "images", "cifar", "idx"):
        yield Case(f"predict run {short(value)}", ("predict", "run", value), odd_files)
        yield Case(f"evaluate run {short(value)}", ("evaluate", "run", value), odd_files)


def budgets() -> Iterator[Case]:
    """Minutes that are none, or that exclude what is given beside them."""
    words = list(SOUND["train"])
    at = words.index("--epochs")
    del words[at : at + 2]
    for value in (*REAL, "0.0001"):
        yield Case(f"train --minutes {short(value)}", ("train", *words, "--minutes", value), odd_files)
    yield Case("train --minutes and --epochs", ("train", *SOUND["train"], "--minutes", "1"))
    yield Case("train --minutes without data", ("train", "--minutes", "1"))
    yield Case("train --minutes of junk", ("train", "junk", "--minutes", "1"), odd_files)


def engines() -> Iterator[Case]:
    """Every engine on files that are not its own and on ones that are spoilt; timing with sizes that make no sense."""
    for engine in ENGINES:
        for file in ("run", "plain.safetensors", "model.onnx", "junk", "empty", "fifo", "picture.png", "images"):
            for command in (("predict", file, "picture.png"), ("evaluate", file, "images")):
                words = (*command, "--engine", engine, "--precision", "bf16")
                yield Case(f"{command[0]} {file} by {engine}", words, odd_files)
    for flag in ("--batch", "--image-size", "--threads"):
        for value in FLAGS["engine"]["--threads"]:
            words = ("engine", "tune", "plain.safetensors", flag, value)
            yield Case(f"engine tune {flag} {short(value)}", words)


def _values(kind: Any) -> list[str]:
    if typing.get_origin(kind) is Literal:
        return ["", "???"]
    first = (typing.get_args(kind) or (kind,))[0]
    return {int: WHOLE, float: REAL, str: TEXT, bool: []}[first]
