"""What is measured of a trial's network after training: its accuracy when it is folded and quantized to int8."""

from __future__ import annotations

from pathlib import Path

from repfold import models
from repfold.deploy.quantize import quantize_model
from repfold.train.model_evaluation import open_data
from repfold.train.recipe import Recipe

_FILE = "int8.onnx"
_IMAGES = 256  # of all classes, to calibrate with


def int8_accuracy(directory: Path, recipe: Recipe, threads: int, *, trust: bool = False) -> dict[str, float]:
    """Return the top-1 in percent of the best epoch's network in int8, and in float32, both in ONNX Runtime.

    It is calibrated on training images.

    Raises: RepFoldError when the network cannot be folded or exported, or ONNX Runtime is not installed.
    """
    model = models.load_model(directory, trust=trust)
    seen = model.description.preprocessing
    assert seen is not None, "training describes its networks"
    train, val = (open_data(directory, None, seen, part) for part in ("train", "val"))
    calibration = train.loader(train.train.sample(_IMAGES), recipe.batch, train=False)
    validation = val.loader("val", recipe.batch, train=False)
    file = directory / _FILE
    try:
        found = quantize_model(model, calibration, validation, file, images=_IMAGES, threads=threads)
    finally:
        file.unlink(missing_ok=True)
    return {"int8_top1": found.after.top1, "fp32_top1": found.before.top1}
