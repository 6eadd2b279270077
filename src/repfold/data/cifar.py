"""CIFAR-10 and CIFAR-100 as published: python (pickle) or binary files, unpacked or in their .tar.gz.

Formats: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from repfold.data.parts import ArrayPart, Listing
from repfold.data.safe_pickle import load_arrays
from repfold.errors import RepFoldError

PIXELS = 3 * 32 * 32
_MOST_BYTES = 2**29  # of one file in an archive; the largest has 155 MB

Files = Mapping[str, Callable[[], bytes]]
Decoded = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ArchiveFormat:
    """One published form: the names of its files, the key or position of its labels, and its reader."""

    name: str
    classes: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    names: str
    label: str
    decode: Callable[[bytes, str, ArchiveFormat], Decoded]
    decode_names: Callable[[bytes, str, ArchiveFormat], list[str]]


def recognises(path: Path) -> bool:
    """Return whether ``path`` is a CIFAR folder, a folder around one or around its archive, or a tar archive."""
    if path.is_file():
        return _is_archive(path)
    return any(_layout_of(_files_in(folder)) for folder in _folders(path)) or _archive_in(path) is not None


def read_cifar(path: Path) -> Listing:
    """Return the published training and test parts of the CIFAR set at ``path``.

    Raises: RepFoldError when files are missing, damaged, or of another format.
    """
    files = _find(path)
    layout = _layout_of(files)
    if layout is None:
        raise RepFoldError(
            f"{path} holds none of the published forms of CIFAR. An archive of class folders has to be unpacked first: "
            f"tar xf {path.name}, then give the folder."
        )
    missing = [name for name in (*layout.train, *layout.val) if name not in files]
    if missing:
        raise RepFoldError(f"{path} is an incomplete {layout.name}: {', '.join(missing)} missing. Unpack it again.")
    names = _class_names(files, layout, path)
    train, val = (_part([(files[name](), name) for name in part], layout) for part in (layout.train, layout.val))
    return Listing(layout.name, tuple(names), train, val)


def _part(batches: list[tuple[bytes, str]], layout: ArchiveFormat) -> ArrayPart:
    decoded = [layout.decode(content, name, layout) for content, name in batches]
    for (pixels, labels), (_, name) in zip(decoded, batches, strict=True):
        if pixels.shape != (len(labels), PIXELS) or pixels.dtype != np.uint8:
            raise RepFoldError(f"{name} holds {pixels.dtype} {pixels.shape} for {len(labels)} labels, not uint8 rows.")
        if len(labels) and not 0 <= labels.min() <= labels.max() < layout.classes:
            raise RepFoldError(f"{name} holds labels outside 0..{layout.classes - 1}: it is damaged.")
    rows_NP = np.concatenate([pixels for pixels, _ in decoded])
    pixels_NHWC = np.ascontiguousarray(rows_NP.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return ArrayPart(pixels_NHWC, np.concatenate([labels for _, labels in decoded]))


def _class_names(files: Files, layout: ArchiveFormat, path: Path) -> list[str]:
    if layout.names not in files:
        return [str(label) for label in range(layout.classes)]
    names = layout.decode_names(files[layout.names](), layout.names, layout)
    if len(names) != layout.classes:
        raise RepFoldError(f"{layout.names} in {path} names {len(names)} classes; {layout.name} has {layout.classes}.")
    return names


def _decode_pickle(content: bytes, name: str, layout: ArchiveFormat) -> Decoded:
    batch = load_arrays(content, name)
    if "data" not in batch or layout.label not in batch:
        raise RepFoldError(f"{name} has the entries {sorted(batch)}; '{layout.label}' and 'data' are needed.")
    return np.asarray(batch["data"]), np.asarray(batch[layout.label], dtype=np.int64)


def _decode_pickled_names(content: bytes, name: str, layout: ArchiveFormat) -> list[str]:
    names = load_arrays(content, name).get(f"{layout.label.removesuffix('s')}_names")
    if not isinstance(names, list):
        raise RepFoldError(f"{name} does not list the class names of {layout.name}.")
    return [text.decode() if isinstance(text, bytes) else str(text) for text in names]


def _decode_binary(content: bytes, name: str, layout: ArchiveFormat) -> Decoded:
    labels = len(layout.label.split())  # CIFAR-100 writes the coarse label first; the last one is ours
    if len(content) % (labels + PIXELS) or not content:
        raise RepFoldError(f"{name} has {len(content)} bytes, not whole records of {labels + PIXELS}: it is damaged.")
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, labels + PIXELS)
    return records[:, labels:], records[:, labels - 1].astype(np.int64)


def _decode_name_lines(content: bytes, name: str, layout: ArchiveFormat) -> list[str]:
    return [line for line in content.decode("utf-8", "replace").split("\n") if line.strip()]


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_PICKLED = (_decode_pickle, _decode_pickled_names)
_BINARY = (_decode_binary, _decode_name_lines)

ARCHIVE_FORMATS = (
    ArchiveFormat("CIFAR-10", 10, _BATCHES, ("test_batch",), "batches.meta", "labels", *_PICKLED),
    ArchiveFormat("CIFAR-100", 100, ("train",), ("test",), "meta", "fine_labels", *_PICKLED),
    ArchiveFormat(
        "CIFAR-10",
        10,
        tuple(f"{batch}.bin" for batch in _BATCHES),
        ("test_batch.bin",),
        "batches.meta.txt",
        "label",
        *_BINARY,
    ),
    ArchiveFormat("CIFAR-100", 100, ("train.bin",), ("test.bin",), "fine_label_names.txt", "coarse fine", *_BINARY),
)
_KNOWN_FILES = frozenset(name for layout in ARCHIVE_FORMATS for name in (*layout.train, *layout.val, layout.names))
_FOLDERS = ("cifar-10-batches-py", "cifar-100-python", "cifar-10-batches-bin", "cifar-100-binary")


def _find(path: Path) -> Files:
    if path.is_file():
        return _files_of_archive(path)
    for folder in _folders(path):
        files = _files_in(folder)
        if _layout_of(files):
            return files
    archive = _archive_in(path)
    return _files_of_archive(archive) if archive else {}


def _layout_of(files: Files) -> ArchiveFormat | None:
    # "train" and "test" are also the names of ordinary folders; only files are listed here.
    return next((one for one in ARCHIVE_FORMATS if one.train[0] in files or one.val[0] in files), None)


def _folders(path: Path) -> list[Path]:
    return [folder for folder in (path, *(path / name for name in _FOLDERS)) if folder.is_dir()]


def _files_in(folder: Path) -> Files:
    return {name: (folder / name).read_bytes for name in _KNOWN_FILES if (folder / name).is_file()}


def _archive_in(folder: Path) -> Path | None:
    return next((path for path in sorted(folder.glob("cifar-10*.tar.gz")) if _is_archive(path)), None)


def _is_archive(path: Path) -> bool:
    return path.is_file() and tarfile.is_tarfile(path)


def _files_of_archive(path: Path) -> Files:
    """Read the known files of a tar archive in one pass; nothing is written to disk."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                stream = archive.extractfile(member) if member.isfile() and name in _KNOWN_FILES else None
                if stream is not None and member.size > _MOST_BYTES:
                    raise RepFoldError(f"{path}: its {member.name} has {member.size:,} bytes, which no batch has.")
                if stream is not None:
                    contents[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise RepFoldError(f"{path} is a damaged archive ({error}). Download it again.") from error
    return {name: partial(bytes, content) for name, content in contents.items()}
