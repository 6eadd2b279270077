"""The program of a shipped folder: from image files to the names of classes, with the engine alone."""

from __future__ import annotations

import inspect

from repfold.data.images import FORMATS
from repfold.deploy.runtimes import Runtime

SCRIPT = "predict.py"

# The pixels are what evaluation sees: see ``data.images`` and ``data.crops``, from which resampling by Pillow may
# differ by one gray level.
_PROGRAM = '''\
"""Name the classes of images: python predict.py IMAGE...  (once before: pip install -r requirements.txt)."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

MODEL = json.loads(Path(__file__).with_name("model.json").read_text(encoding="utf-8"))
SEEN = MODEL["preprocessing"]
FORMATS = {formats}  # others, whatever the file is called, are not opened
BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what Pillow raises of a broken file


{load}

network = load(str(Path(__file__).with_name(MODEL["file"])), MODEL["threads"], MODEL["precision"])


def pixels(path):
    """The central square of a picture, upright: uint8 [S, S, channels]."""
    mode, size, resize = {{1: "L", 3: "RGB"}}[SEEN["channels"]], SEEN["image_size"], SEEN["resize"]
    image = Image.open(path, formats=FORMATS)
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


def probabilities(paths):
    """Of each class in each image: float32 [N, K]."""
    x_NHWC = (np.stack([pixels(path) for path in paths]) / 255 - SEEN["mean"]) / SEEN["std"]
    logits = network(np.ascontiguousarray(x_NHWC.transpose(0, 3, 1, 2), np.float32))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    failed = 0
    for path in sys.argv[1:]:
        try:
            row = probabilities([path])[0]
        except BROKEN as error:
            failed = 1
            print(f"{{path}}  no answer: {{error}}", file=sys.stderr)
            continue
        best = row.argsort()[::-1][:3]
        print(path, *(f"{{MODEL['classes'][k]}} {{row[k]:.1%}}" for k in best), sep="  ")
    sys.exit(failed)
'''


def script(runtime: Runtime) -> str:
    """Return ``predict.py`` for an engine; what opens the file in it is the source of ``runtime.load``."""
    _, *body = inspect.getsource(runtime.load).splitlines(keepends=True)
    return _PROGRAM.format(formats=FORMATS, load="def load(path, threads, precision):\n" + "".join(body))
