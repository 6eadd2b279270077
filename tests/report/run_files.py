"""Run directories as training leaves them, written without training: curves of a plausible shape, seeded."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

IMAGENETTE = (
    "tench",
    "English springer",
    "cassette player",
    "chain saw",
    "church",
    "French horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
)


def write_run(
    directory: Path,
    *,
    seed: int = 0,
    epochs: int = 25,
    recorded: int | None = None,
    warmup: int = 5,
    classes: tuple[str, ...] = IMAGENETTE,
    images: int = 150,
    recipe: dict[str, Any] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """Write the run directory of a training of ``epochs``, ``recorded`` of them reached, but no file of ``without``."""
    directory.mkdir(parents=True)
    draw = random.Random(seed * 1009 + warmup)
    records = epoch_records(draw, epochs, warmup, len(classes))[: epochs if recorded is None else recorded]
    matrix = confusion_matrix(draw, len(classes), images, records[-1]["val_top1"] / 100 if records else 0.1)
    settings: dict[str, Any] = {
        "model": "repvgg-a0",
        "data": "data/imagenette-subset",
        "preset": "imagenet",
        "image_size": 128,
        "epochs": epochs,
        "batch": 64,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "nesterov": False,
        "schedule": "cosine",
        "warmup": f"{warmup}ep",
        "crop_scale": [0.35, 1.0],
        "flip": True,
        "label_smoothing": 0.0,
        "precision": "bfloat16",
        "channels_last": True,
        "seed": seed,
        **(recipe or {}),
    }
    files = {
        "recipe.toml": "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()),
        "record.jsonl": "".join(json.dumps(record) + "\n" for record in records),
        "environment.json": json.dumps(ENVIRONMENT | {"command": ["repfold", "train", "my data", f"--seed={seed}"]}),
        "confusion.json": json.dumps({"classes": list(classes), "matrix_TP": matrix}),
        "certificate.json": json.dumps(certificate(draw)),
        "timings.json": json.dumps(timings(draw)),
    }
    for name, text in files.items():
        if name not in without:
            (directory / name).write_text(text, encoding="utf-8")
    return directory


def epoch_records(draw: random.Random, epochs: int, warmup: int, classes: int) -> list[dict[str, Any]]:
    """Return the records of a run whose accuracy rises with the learning rate's integral, with noise."""
    steps, done, records = 50, 0.0, []

    def rate(step: float) -> float:
        at = step / steps
        if at < warmup:
            return 0.1 * at / warmup
        return 0.05 * (1 + math.cos(math.pi * (at - warmup) / max(1, epochs - warmup)))

    for epoch in range(1, epochs + 1):
        done += 0.3 + rate(epoch * steps) * 6
        level = 1 - math.exp(-done / 5.5)
        top1 = 100 / classes + (72 - 100 / classes) * level + draw.gauss(0, 6 * rate(epoch * steps) / 0.1 + 0.6)
        top1 = min(99.0, max(60 / classes, top1))
        top5 = 100 - (100 - top1) * 0.18 - 8 * (1 - level)
        val_loss = 2.3 * (1 - top1 / 100) + 0.12 + draw.random() * 0.05
        records.append(
            {
                "epoch": epoch,
                "step": epoch * steps,
                "lr_first": rate((epoch - 1) * steps + 1),
                "lr": rate(epoch * steps - 1),
                "train_loss": val_loss * (1.02 - 0.45 * level),
                "train_top1": min(100.0, top1 + 22 * level**2 + draw.gauss(0, 0.7)),
                "val_loss": val_loss,
                "val_top1": top1,
                **({"val_top5": top5} if classes >= 5 else {}),
                "val_precision": top1 + draw.gauss(0.3, 0.4),
                "val_recall": top1 + draw.gauss(0, 0.05),
                "images_per_second": draw.gauss(585, 9) - (150 if epoch == 1 else 0),
                "waiting_share": 0.19 if epoch == 1 else abs(draw.gauss(0.012, 0.004)),
                "seconds": 3200 / 585 + draw.random() * 0.3 + 0.9,
            }
        )
    return records


def confusion_matrix(draw: random.Random, classes: int, images: int, accuracy: float) -> list[list[int]]:
    """Return counts of true class by predicted class, with some pairs that are confused far more than others."""
    rows = []
    for true in range(classes):
        weights = [draw.random() ** 4 + 0.01 for _ in range(classes)]
        weights[true] = 0.0
        row = [0] * classes
        hit = min(0.98, max(0.05, accuracy + draw.gauss(0, 0.12)))
        for _ in range(images):
            row[true if draw.random() < hit else draw.choices(range(classes), weights)[0]] += 1
        rows.append(row)
    return rows


def certificate(draw: random.Random, regions: int = 22) -> dict[str, Any]:
    """Return a certificate in the form that the fold writes."""
    widths = [48, 48, 48, 96, 96, 96, 96, *[192] * 14, 1280]
    folded = []
    for index, (inputs, width) in enumerate(zip([3, *widths], widths[:regions], strict=False)):
        branches = 10 if inputs != width else 10 + 2 / inputs
        side = 64 // (1 if index < 1 else 2)
        error = abs(draw.gauss(2e-7, 1.2e-7)) + 2e-8
        folded.append(
            {
                "name": f"stages.{index // 5}.{index % 5}",
                "nodes": [f"conv_{index}", f"norm_{index}", "add"],
                "error": error,
                "error_float64": error * 1e-9,
                "absolute_error": error * 7,
                "parameters": [int(inputs * width * branches + 4 * width), inputs * width * 9 + width],
                "multiply_adds": [int(inputs * width * branches * side**2), inputs * width * 9 * side**2],
            }
        )
    return {
        "error": 4.1e-7,
        "absolute_error": 3.2e-6,
        "dtype": "float32",
        "regions": folded,
        "left": [{"name": "head", "reason": "a pooling stands between the convolution and the linear layer"}],
    }


def timings(draw: random.Random) -> dict[str, Any]:
    """Return timings of three forms at two batch sizes."""
    forms = (("train form, PyTorch", 9.4), ("folded, PyTorch", 4.9), ("folded, ONNX Runtime", 3.1))
    rows = []
    for batch in (1, 32):
        for form, milliseconds in forms:
            median = milliseconds * batch**0.9 * (1 + 0.02 * draw.random())
            spread = {"median_ms": median, "low_ms": median * 0.93, "high_ms": median * 1.15}
            rows.append({"form": form, "batch": batch, **spread, "n": 40})
    return {"machine": {"cpu": "Example 9000 at 2.0 GHz", "threads": 2}, "rows": rows}


ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.13.0+cpu",
    "device": "cpu",
    "cpu": {"name": "Example 9000", "cores": 2, "features": ["avx512", "bf16"]},
    "repfold": "0.1.0",
}
