"""The commands, by what they are for. Each is a function of its name in a file of its name, imported when it is called.

Overview, help and completion are made of this table; nothing else of RepFold is imported for the overview.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """What the overview says of a command, and an example that its help ends with."""

    summary: str
    example: str

    def function(self, name: str) -> Callable[..., Any]:
        """Import and return the function of the command called ``name``."""
        identifier = name.replace("-", "_")
        found: Callable[..., Any] = getattr(importlib.import_module(f"repfold.cli.{identifier}"), identifier)
        return found


GROUPS: dict[str, dict[str, Command]] = {
    "train and use": {
        "demo": Command("everything once, on handwritten digits: a minute", "repfold demo"),
        "train": Command(
            "train a network on your images; fold, prove, export and time it",
            "repfold train photos --minutes 20 --out runs/photos",
        ),
        "evaluate": Command("how good a model is on a data set, class by class", "repfold evaluate runs/photos"),
        "predict": Command("the classes of images", "repfold predict runs/photos holiday/ --csv classes.csv"),
        "report": Command("one HTML page of one or several runs", "repfold report runs/a runs/b -o both.html"),
        "advise": Command("what a run's record says to change", "repfold advise runs/photos"),
        "verify": Command("check a run's files, its fold and its steps", "repfold verify runs/photos"),
    },
    "fold and deploy": {
        "fold": Command(
            "fold any network into plain convolutions, proved",
            "repfold fold mypackage.nets:net --weights net.pth --example 1,3,224,224 -o plain.onnx",
        ),
        "profile": Command("what branches cost and what folding saves", "repfold profile runs/photos"),
        "export": Command("a model as ONNX or .pt2", "repfold export runs/photos -o photos.onnx"),
        "convert": Command(
            "checkpoints between the layouts of authors, timm and RepFold",
            "repfold convert RepVGG-A0.pth -o a0.safetensors --to repfold",
        ),
        "bench": Command("time a model's forms side by side", "repfold bench runs/photos --engines repfold"),
        "quantize": Command("a model in int8, and what that costs", "repfold quantize runs/photos"),
        "deploy": Command(
            "a folder to ship, with the engine that is fastest here", "repfold deploy runs/photos -o served"
        ),
        "engine": Command("what RepFold's own engine does with a model", "repfold engine info runs/photos"),
    },
    "settings and comparisons": {
        "models": Command("networks, what they cost, where weights can be had", "repfold models 'repvgg-a*'"),
        "recipes": Command("recipes that come with RepFold, and what they reached", "repfold recipes warmup-linear"),
        "schedule": Command(
            "learning rates over a training, drawn", "repfold schedule cosine --warmup 5 --plot cosine.svg"
        ),
        "study": Command(
            "comparisons over several seeds, and what follows from them",
            "repfold study run warmup-digits --out runs/warmup",
        ),
        "find-lr": Command("at which learning rates the loss falls", "repfold find-lr photos --image-size 64"),
        "augment": Command(
            "pictures of what augmentation does", "repfold augment photos --augment cutout --preview sheet.png"
        ),
        "completion": Command(
            "completion of commands and options in your shell",
            "repfold completion bash > ~/.local/share/bash-completion/completions/repfold",
        ),
    },
}

COMMANDS: dict[str, Command] = {name: command for group in GROUPS.values() for name, command in group.items()}


def overview() -> str:
    """Return what ``repfold --help`` prints."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: repfold COMMAND ...",
        "",
        "Train rich, fold to plain, deploy fast: convolutional image classifiers.",
    ]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {command.summary}" for name, command in group.items())]
    lines += [
        "",
        "options:",
        f"  {'-h, --help':<{width}}  this; repfold COMMAND --help tells a command's options, with an example",
        f"  {'--version':<{width}}  the versions of RepFold, PyTorch and Python",
        "",
        "example:",
        f"  {COMMANDS['train'].example}",
    ]
    return "\n".join(lines)
