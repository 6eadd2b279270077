"""Reading image files, whatever their mode, into 8-bit gray or RGB pixels: one, or many in threads."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import (
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from repfold import regular
from repfold.errors import RepFoldError
from repfold.limits import MOST_PIXELS

# All that is opened, whatever a file is called. Pillow knows some forty more formats, one of which starts Ghostscript.
# Importing them registers them: Pillow would do it lazily, and threads that race for it would each do it.
_PLUGINS = (
    *(JpegImagePlugin.JpegImageFile, PngImagePlugin.PngImageFile, WebPImagePlugin.WebPImageFile),
    *(GifImagePlugin.GifImageFile, BmpImagePlugin.BmpImageFile, TiffImagePlugin.TiffImageFile),
    PpmImagePlugin.PpmImageFile,
)
FORMATS = tuple(plugin.format for plugin in _PLUGINS)

MODE_OF_CHANNELS = {1: "L", 3: "RGB"}
GRAY_MODES = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})

# The last bytes of a whole file of these formats hold this mark. Its absence is a suspicion, not a proof.
_END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 64

_ROWS_A_TASK = 16  # several, since a small picture decodes faster than a thread is handed its task
Answer = TypeVar("Answer")


class BrokenImageError(RepFoldError):
    """A file that cannot be decoded: ``path``, and the ``reason``."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}.")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """An image file's header: height and width in pixels, upright as EXIF says, and whether it is gray."""

    height: int
    width: int
    gray: bool


def read_image(
    path: str | os.PathLike[str], channels: int = 3, *, short_side: int | None = None, max_pixels: int = MOST_PIXELS
) -> np.ndarray:
    """Return the picture in ``path`` as uint8 [H, W, channels], upright as its EXIF orientation says.

    Palettes, CMYK and 16-bit files are converted; what is transparent is laid on white. With ``short_side``, a large
    JPEG may be decoded at a half, quarter or eighth of its size as long as its short side keeps that many pixels,
    which is several times faster.

    Raises: BrokenImageError when the file is missing, empty, truncated, of more than ``max_pixels``, or not an image of
    one of FORMATS.
    """
    path = Path(path)
    try:
        with _opened(path, max_pixels) as image:
            if short_side is not None:
                image.draft(MODE_OF_CHANNELS[channels], (short_side, short_side))
            return _upright_pixels(image, channels)
    except Exception as error:  # Pillow's decoders raise nearly anything on a damaged file
        raise BrokenImageError(path, _reason(path, error)) from error


def read_header(path: Path, max_pixels: int = MOST_PIXELS) -> Header:
    """Return the size and kind of the picture in ``path`` without decoding it.

    A JPEG or PNG without its end mark is decoded after all, since it is probably truncated.

    Raises: BrokenImageError as ``read_image`` does.
    """
    try:
        with _opened(path, max_pixels) as image:
            width, height = image.size
            gray = image.mode in GRAY_MODES
            if _orientation(image) >= 5:  # 5..8 lie on their side
                width, height = height, width
            mark = _END_MARKS.get(image.format or "", b"")
        if mark not in _tail(path):
            read_image(path, max_pixels=max_pixels)
        return Header(height, width, gray)
    except BrokenImageError:
        raise
    except Exception as error:  # as above: a header can be damaged in any way
        raise BrokenImageError(path, _reason(path, error)) from error


def in_parallel(task: Callable[[int], Answer], count: int) -> Iterator[Answer | BrokenImageError]:
    """Yield ``task(row)``, or the error of a broken file, for each row in order.

    Threads do the work: Pillow decodes without holding the interpreter's lock.
    """

    def attempt(row: int) -> Answer | BrokenImageError:
        try:
            return task(row)
        except BrokenImageError as error:
            return error

    def attempt_some(first: int) -> list[Answer | BrokenImageError]:
        return [attempt(row) for row in range(first, min(first + _ROWS_A_TASK, count))]

    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="repfold-decode") as pool:
        # In groups, so that what is decoded but not yet consumed stays bounded.
        group = 4 * workers * _ROWS_A_TASK
        for first in range(0, count, group):
            for answers in pool.map(attempt_some, range(first, min(first + group, count), _ROWS_A_TASK)):
                yield from answers


class _TooLarge(Exception):
    """The picture has more pixels than it may have."""

    def __init__(self, max_pixels: int) -> None:
        super().__init__(f"more than {max_pixels:,} pixels; if it is meant to be so large, allow them: --max-pixels")


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """The picture in a regular file, its header read. Raises: _TooLarge, and whatever Pillow raises."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)  # the limit that was asked for, not Pillow's, is to decide
    with regular.opened(path) as file:
        if os.fstat(file.fileno()).st_size == 0:  # so have the files of /proc
            raise UnidentifiedImageError
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise _TooLarge(max_pixels) from error
        with image:
            if image.width * image.height > max_pixels:
                raise _TooLarge(max_pixels)
            yield image


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
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


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
    with regular.opened(path) as file:
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
        return f"not an image of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    if isinstance(error, _TooLarge | regular.IrregularFileError):
        return str(error)
    if "truncated" in str(error).lower():
        return "truncated image"
    return f"cannot be decoded ({type(error).__name__}: {error})"
