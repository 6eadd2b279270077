"""Tensors and text in a safetensors file: read with every fault named, written whole or not at all."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from repfold import atomic, regular
from repfold.errors import RepFoldError

# How files that people mistake for safetensors begin: zip archives (torch.save), bare pickles, HDF5, legacy tar.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")

_WITH_NAN = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Contents:
    """A file's header: what it holds, before any tensor is read."""

    path: Path
    metadata: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]


def read_header(path: str | os.PathLike[str]) -> Contents:
    """Read the header of a safetensors file.

    Raises: RepFoldError when the file is missing, empty, a pickle, truncated or anything else than safetensors.
    """
    path = Path(path)
    with _opened(path) as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no dict)
        return Contents(path, file.metadata() or {}, shapes)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Read every tensor into memory of its own, so that the file may be replaced afterwards."""
    with _opened(Path(path)) as file:
        return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118 (no dict)


def refuse_nan(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises: RepFoldError that names the tensors in which values are not numbers (NaN), as a diverged training leaves.

    Infinities pass: masks are made of them.
    """
    odd = [name for name, tensor in tensors.items() if tensor.dtype in _WITH_NAN and bool(tensor.isnan().any())]
    if odd:
        raise RepFoldError(
            f"{len(odd)} of its tensors hold values that are not numbers (NaN), '{odd[0]}' for one: the training that "
            "they come from diverged, or the file is damaged. Use an earlier checkpoint."
        )


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    check: Callable[[Path], None] = lambda file: None,
) -> None:
    """Write tensors and text atomically. Tensors that share memory are written one by one.

    Before the file replaces an older one it is read and compared, and ``check`` is called with it; the older
    one stays if it raises.
    Raises: RepFoldError for a tensor without values (meta device), and when the disk refuses or does not keep them.
    """
    seen: set[int] = set()
    written: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if tensor.is_meta or tensor.layout is not torch.strided:
            raise RepFoldError(f"Tensor '{key}' is {tensor.layout} on {tensor.device}; only dense values can be saved.")
        dense = tensor.detach().cpu().contiguous()
        start = dense.untyped_storage().data_ptr()
        written[key] = dense.clone() if start in seen else dense
        seen.add(start)
    with atomic.replacing(path) as temporary:
        try:
            save_file(written, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error
        _compare(temporary, written)
        check(temporary)


def write_archive(path: str | os.PathLike[str], content: object) -> None:
    """Write ``content`` with torch.save, for other code, atomically.

    Raises: NotWritten when the disk refuses.
    """
    with atomic.replacing(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # PyTorch's writer does not pass on the system's error
            raise OSError(f"writing failed after {temporary.stat().st_size:,} bytes; is the disk full?") from error
        try:
            with zipfile.ZipFile(temporary) as archive:
                damaged = archive.testzip()
        except zipfile.BadZipFile:
            damaged = "directory"
        if damaged:
            raise OSError(f"its part '{damaged}' does not read back as it was written")


def _compare(path: Path, written: Mapping[str, torch.Tensor]) -> None:
    """Raises: OSError when the file does not hold exactly these tensors, bit by bit."""
    try:
        with _opened(path) as file:
            wrong = [key for key, tensor in written.items() if not _same_bits(tensor, file.get_tensor(key))]
    except (RepFoldError, SafetensorError) as error:
        raise OSError("it does not read back as it was written") from error
    if wrong:
        raise OSError(f"its tensor '{wrong[0]}' does not read back as it was written")


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8))


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins with these 9 bytes is one of torch.save's, or a bare pickle.

    A safetensors file begins with the length of its header, which may look like a pickle, and then the header.
    """
    return start.startswith(PICKLES) and start[8:9] != b"{"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        raise RepFoldError(f"{path} is a directory, not a weights file.")
    if not path.exists():
        raise RepFoldError(f"{path} does not exist.")
    try:
        with regular.opened(path) as raw:
            start = raw.read(9)
    except regular.IrregularFileError as error:
        raise RepFoldError(f"{path} is no weights file: {error}.") from error
    if not start:
        raise RepFoldError(f"{path} is empty: its writing was probably interrupted. Use an earlier copy.")
    if is_pickle(start):
        raise RepFoldError(
            f"{path} is a pickle (a file of torch.save), which can run code when read; weights are expected as "
            "safetensors. `repfold convert` turns a checkpoint of a known model into a safe file."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except SafetensorError as error:
        raise RepFoldError(f"{path} is not a complete safetensors file ({error}): truncated, or not one.") from error
