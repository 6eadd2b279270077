"""Reading one image file, whatever its mode, into 8-bit gray or RGB pixels."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from repfold.errors import RepFoldError

# Loaded once here: Pillow registers its usual formats lazily, and threads that race for it would each do it.
Image.preinit()

MODE_OF_CHANNELS = {1: "L", 3: "RGB"}
GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

# The last bytes of a whole file of these formats hold this mark. Its absence is a suspicion, not a proof.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 64


class BrokenImageError(RepFoldError):
    """A file that cannot be decoded: ``path`` and ``reason`` say which and why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}.")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What a file says of itself: height and width in pixels, upright as EXIF says, and whether it is gray."""

    height: int
    width: int
    gray: bool


def read_image(path: str | os.PathLike[str], channels: int = 3, *, short_side: int | None = None) -> np.ndarray:
    """Return the picture in ``path`` as uint8 [H, W, channels], upright as its EXIF orientation says.

    Palettes, CMYK and 16-bit files are converted; what is transparent is laid on white. With ``short_side``, a large
    JPEG may be decoded at a half, quarter or eighth of its size as long as its short side keeps that many pixels,
    which is several times faster.

    Raises: BrokenImageError when the file is missing, empty, truncated or not an image.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            if short_side is not None:
                image.draft(MODE_OF_CHANNELS[channels], (short_side, short_side))
            return _upright_pixels(image, channels)
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise BrokenImageError(path, _reason(path, error)) from error


def read_header(path: Path) -> Header:
    """Return the size and kind of the picture in ``path`` without decoding it.

    A JPEG or PNG without its end mark is decoded after all, since it is probably truncated.

    Raises: BrokenImageError when the file is missing, empty, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            gray = image.mode in GRAY_MODES
            if _orientation(image) >= 5:  # 5..8 lie on their side
                width, height = height, width
            mark = _END_MARKS.get(image.format or "", b"")
        if mark not in _tail(path):
            read_image(path)
        return Header(height, width, gray)
    except BrokenImageError:
        raise
    except Exception as error:  # as above: a header can be damaged in any way
        raise BrokenImageError(path, _reason(path, error)) from error


def _upright_pixels(image: Image.Image, channels: int) -> np.ndarray:
    turn = _TURNS.get(_orientation(image))
    eight_bit = _EIGHT_BIT.get(image.mode, _unchanged)(image)
    converted = _opaque(eight_bit).convert(MODE_OF_CHANNELS[channels])
    upright = converted if turn is None else converted.transpose(turn)
    return np.array(upright).reshape(upright.height, upright.width, channels)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":  # Pillow turns these itself, and gives their size as turned
        return 1
    # The base class's method on purpose: that of PNG files decodes the whole picture, in search of metadata behind it.
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion to 8 bits clips at 255 instead of scaling.
    return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))


def _from_32_bit(image: Image.Image) -> Image.Image:
    """Integers of 32 bits hold 8-bit values when none is larger than 255, 16-bit ones otherwise."""
    values = np.asarray(image).clip(0, 65535)
    return Image.fromarray((values >> 8 if values.max(initial=0) > 255 else values).astype(np.uint8))


def _from_float(image: Image.Image) -> Image.Image:
    """Floats are taken as 0..1 when none is larger than 1, as 0..255 otherwise."""
    values = np.nan_to_num(np.asarray(image))
    scaled = values * 255 if values.max(initial=0) <= 1 else values
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _unchanged(image: Image.Image) -> Image.Image:
    return image


# EXIF 2.32, tag 0x0112: what sets a picture upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_EIGHT_BIT: dict[str, Callable[[Image.Image], Image.Image]] = {
    "I;16": _from_16_bit,
    "I;16L": _from_16_bit,
    "I;16B": _from_16_bit,
    "I;16N": _from_16_bit,
    "I": _from_32_bit,
    "F": _from_float,
}


def _tail(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-min(_TAIL_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read()


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        raise error  # of the machine, not of the file, which nobody should leave out as broken
    if not path.exists():
        return "no such file"
    if path.is_file() and path.stat().st_size == 0:
        return "empty file (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow can read"
    if "truncated" in str(error).lower():
        return "truncated image"
    return f"cannot be decoded ({type(error).__name__}: {error})"
