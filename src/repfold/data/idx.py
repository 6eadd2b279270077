"""MNIST-style IDX files, gzipped or not: MNIST, Fashion-MNIST, KMNIST, EMNIST.

Format: http://yann.lecun.com/exdb/mnist/ (two zero bytes, type, number of dimensions, big-endian sizes, values).
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from repfold import regular
from repfold.data.parts import ArrayPart, Listing
from repfold.errors import RepFoldError

UNSIGNED_BYTE = 0x08
_MOST_BYTES = 2**33
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_IMAGES = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test|val)-images(?P<kind>[-.]idx3-ubyte)(?P<gz>\.gz)?")
_TRAIN = "train"


def recognises(path: Path) -> bool:
    """Return whether ``path`` is an IDX image file or a folder with such files."""
    return bool(_IMAGES.fullmatch(path.name)) if path.is_file() else bool(_image_files(path))


def read_idx(path: Path) -> Listing:
    """Return the training and test parts of the IDX set at ``path``: a folder, or the image file of one of several.

    Labels are renumbered from 0 in ascending order. EMNIST stores its pictures transposed; they are set upright.
    Raises: RepFoldError when files are missing or damaged, or the folder holds several sets.
    """
    name, images = _choose_set(path)
    parts = {"train": _part_file(images, True, path), "val": _part_file(images, False, path)}
    pixels = {part: read_idx_file(file, 3) for part, file in parts.items()}
    labels = {part: read_idx_file(_labels_file(file), 1) for part, file in parts.items()}
    for part, file in parts.items():
        if len(pixels[part]) != len(labels[part]):
            raise RepFoldError(f"{file} holds {len(pixels[part])} images, its label file {len(labels[part])} labels.")
    folder = next(iter(parts.values())).parent
    if name.lower().startswith("emnist"):
        pixels = {part: np.ascontiguousarray(stored.transpose(0, 2, 1)) for part, stored in pixels.items()}
    values = np.unique(np.concatenate(list(labels.values())))
    train, val = (
        ArrayPart(pixels[part][..., None], np.searchsorted(values, labels[part])) for part in ("train", "val")
    )
    return Listing(name.rstrip("-_") or folder.name, _class_names(folder, name, values), train, val)


def read_idx_file(path: Path, dimensions: int) -> np.ndarray:
    """Return the uint8 array in an IDX file of so many dimensions.

    Raises: RepFoldError when it is no such file or is cut short.
    """
    start = 4 + 4 * dimensions
    try:
        with _unpacked(path) as file:
            head = file.read(start)
            if len(head) < start or head[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
                raise RepFoldError(
                    f"{path} does not begin as an IDX file of {dimensions} dimension(s) of unsigned bytes."
                )
            shape = struct.unpack(f">{dimensions}I", head[4:])
            expected = math.prod(shape)
            if expected > _MOST_BYTES:
                raise RepFoldError(f"{path} claims to hold {shape} values, which is more than is read.")
            content = file.read(expected + 1)  # what is packed may unpack to any length
    except (OSError, EOFError, zlib.error) as error:
        raise RepFoldError(f"{path} cannot be read ({error}). Get the file again from its publisher.") from error
    if len(content) != expected:
        found = "more" if len(content) > expected else str(start + len(content))
        raise RepFoldError(f"{path} holds {found} bytes where {shape} values need {start + expected}: it is damaged.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape).copy()


def _unpacked(path: Path) -> BinaryIO:
    with regular.opened(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if packed else regular.opened(path)


def _image_files(path: Path) -> list[Path]:
    folders = [path, path / "raw"]
    found = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    return [file for file in found if _IMAGES.fullmatch(file.name) and file.is_file()]  # no FIFO, nor a folder


def _choose_set(path: Path) -> tuple[str, list[Path]]:
    files = _image_files(path.parent if path.is_file() else path)
    sets = {str(match["set"]) for file in files if (match := _IMAGES.fullmatch(file.name))}
    if path.is_file() and (matched := _IMAGES.fullmatch(path.name)):
        sets = {str(matched["set"])}
    if len(sets) > 1:
        raise RepFoldError(
            f"{path} holds several sets: {', '.join(sorted(sets))}. Name the training images of one of them instead, "
            f"as {next(file for file in files if _TRAIN in file.name)}."
        )
    name = sets.pop()
    return name, [file for file in files if (match := _IMAGES.fullmatch(file.name)) and match["set"] == name]


def _part_file(images: list[Path], train: bool, path: Path) -> Path:
    # Of a file and its gzipped copy the shorter name, so the unpacked one, is taken.
    for file in sorted(images, key=lambda file: len(file.name)):
        match = _IMAGES.fullmatch(file.name)
        if match and (match["part"] == _TRAIN) == train:
            return file
    wanted = "train-images-idx3-ubyte" if train else "t10k-images-idx3-ubyte"
    raise RepFoldError(
        f"{path} has no {'training' if train else 'test'} images ({wanted}, also gzipped): add the file."
    )


def _labels_file(images: Path) -> Path:
    name = images.name.removesuffix(".gz").replace("-images", "-labels").replace("idx3", "idx1")
    for candidate in (images.with_name(name), images.with_name(f"{name}.gz")):
        if candidate.is_file():
            return candidate
    raise RepFoldError(f"{images} has no label file beside it: {name} (also gzipped) is missing.")


def _class_names(folder: Path, name: str, values: np.ndarray) -> tuple[str, ...]:
    """Names of the classes: of EMNIST's mapping file ("label code [code]" a line), Fashion-MNIST's, or numbers."""
    mapping = folder / f"{name}mapping.txt"
    if mapping.is_file():
        lines = [line.split() for line in mapping.read_text().splitlines() if line.strip()]
        characters = {int(label): chr(int(code)) for label, code, *_ in lines}
        return tuple(characters.get(int(value), str(value)) for value in values)
    if "fashion" in str(folder.resolve()).lower() and len(values) == len(FASHION_CLASSES):
        return FASHION_CLASSES
    return tuple(str(value) for value in values)
