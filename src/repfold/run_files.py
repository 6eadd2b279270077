"""The files of a run directory: what each is called, what it holds, and which stage of a run writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repfold import regular

Stage = Literal["train", "fold", "export", "time", "look", "report"]

RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
RECORD = "record.jsonl"
CHECKPOINT = "checkpoint.pt"
PREVIOUS_CHECKPOINT = "checkpoint.previous.pt"
DAMAGED_CHECKPOINT = "checkpoint.damaged.pt"
BEST = "best.safetensors"
PREVIOUS_BEST = "best.previous.safetensors"
CONFUSION = "confusion.json"
SCALES = "scales.safetensors"
RULES = "rules.json"
PLAIN = "plain.safetensors"
CERTIFICATE = "certificate.json"
ONNX = "model.onnx"
INT8 = "int8.onnx"
TIMINGS = "timings.json"
MISTAKES = "mistakes.json"
REPORT = "report.html"

MOST_BYTES = 2**26  # of a file that describes a run

# Marks on the directory itself, which hold nothing about the run.
LOCK = ".lock"  # there while a run is being trained
DEMO = ".demo"  # there when ``repfold demo`` made the directory's run


@dataclass(frozen=True)
class RunFile:
    """One file of a run directory. ``always``: whether every finished run has it."""

    name: str
    meaning: str
    stage: Stage
    always: bool = True


FILES: tuple[RunFile, ...] = (
    RunFile(RECIPE, "the complete recipe", "train"),
    RunFile(ENVIRONMENT, "machine, software, settings chosen", "train"),
    RunFile(RECORD, "one line per epoch", "train"),
    RunFile(CHECKPOINT, "everything to go on training", "train"),
    RunFile(PREVIOUS_CHECKPOINT, "the checkpoint before it", "train", always=False),
    RunFile(DAMAGED_CHECKPOINT, "a checkpoint that could not be read, kept to find out why", "train", always=False),
    RunFile(BEST, "weights of the best epoch, training form", "train"),
    RunFile(PREVIOUS_BEST, "weights of the best epoch before it", "train", always=False),
    RunFile(CONFUSION, "confusion matrix of the best epoch", "train"),
    RunFile(SCALES, "scales of the branches that gradients are re-parameterized by", "train", always=False),
    RunFile(RULES, "what gradients are multiplied with, and why", "train", always=False),
    RunFile(PLAIN, "the folded network", "fold"),
    RunFile(CERTIFICATE, "proof of the fold", "fold"),
    RunFile(ONNX, "the folded network for ONNX Runtime", "export"),
    RunFile(INT8, "the folded network in int8", "export", always=False),
    RunFile(TIMINGS, "timings of the forms", "time"),
    RunFile(MISTAKES, "the worst mistakes, with pictures", "look", always=False),
    RunFile(REPORT, "a page like this one", "report"),
)
NAMES = tuple(file.name for file in FILES)
ALWAYS = tuple(file.name for file in FILES if file.always)
# What follows from a finished training; another training makes it stale.
DERIVED = tuple(file.name for file in FILES if file.stage != "train")


def environment_of(directory: Path) -> dict[str, Any]:
    """What a run's environment.json says; nothing where there is none, or it is damaged."""
    try:
        content = json.loads(regular.read_text(directory / ENVIRONMENT, MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def epochs_of(directory: Path) -> tuple[dict[str, Any], ...]:
    """The lines of a run's record; none where there is no file, or what it holds is damaged."""
    try:
        lines = regular.read_text(directory / RECORD, MOST_BYTES).splitlines()
        return tuple(json.loads(line) for line in lines if line.strip())
    except (OSError, ValueError, RecursionError):
        return ()
