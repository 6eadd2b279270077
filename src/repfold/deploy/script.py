"""The program of a shipped folder: from image files to the names of classes, with the engine alone."""

from __future__ import annotations

import inspect

from repfold.deploy.runtimes import Runtime

SCRIPT = "predict.py"

# The pixels are what evaluation sees: see ``data.images`` and ``data.crops``, from which resampling by Pillow may
# differ by one gray level.
_PROGRAM = '''\
"""Name the classes of images: python predict.py IMAGE...  (once before: pip install -r requirements.txt)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
MODEL = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
SEEN = MODEL["preprocessing"]


{load}

network = load(str(HERE / MODEL["file"]), MODEL["threads"], MODEL["precision"])


def pixels(path: str) -> np.ndarray:
    """The central square of a picture, upright: uint8 [S, S, channels]."""
    mode, size, resize = {{1: "L", 3: "RGB"}}[SEEN["channels"]], SEEN["image_size"], SEEN["resize"]
    image = Image.open(path)
    image.draft(mode, (resize, resize))  # a large JPEG is decoded at a half, quarter or eighth of its size
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = ImageOps.exif_transpose(image).convert(mode)
    side = max(1, round(min(image.size) * (size / resize)))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(square).reshape(size, size, -1)


def probabilities(paths: list[str]) -> np.ndarray:
    """Of each class in each image: float32 [N, K]."""
    x_NHWC = np.stack([pixels(path) for path in paths]).astype(np.float32) / 255
    x_NHWC = (x_NHWC - np.float32(SEEN["mean"])) / np.float32(SEEN["std"])
    logits = network(np.ascontiguousarray(x_NHWC.transpose(0, 3, 1, 2)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    for path in sys.argv[1:]:
        (row,) = probabilities([path])
        best = row.argsort()[::-1][:3]
        print(path, *(f"{{MODEL['classes'][k]}} {{row[k]:.1%}}" for k in best), sep="  ")
'''


def script(runtime: Runtime) -> str:
    """Return ``predict.py`` for an engine; what opens the file in it is the source of ``runtime.load``."""
    source = inspect.getsource(runtime.load).replace(f"def {runtime.load.__name__}(", "def load(", 1)
    return _PROGRAM.format(load=source)
