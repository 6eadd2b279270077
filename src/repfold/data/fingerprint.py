"""Whether data are still what they were: a digest of what they consist of, without decoding a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repfold.data.parts import ArrayPart, FilePart, Part


@dataclass(frozen=True)
class Fingerprint:
    """``content``: of the files' names, sizes and labels, or of the pixels where these are in memory to begin with.
    ``times``: of when the files were last changed; "" where there are none. ``bytes``: what they take."""

    images: int
    bytes: int
    content: str
    times: str = ""

    def __str__(self) -> str:
        return f"{self.images:,} images of {self.bytes:,} bytes"


def fingerprint(parts: Sequence[Part]) -> Fingerprint:
    """Return the fingerprint of surveyed parts, in this order.

    Names of files are those below the set's folder: a set that was moved as a whole is the same.
    """
    taken = [_TAKEN[type(part)](part) for part in parts]
    sizes, contents, times = zip(*taken, strict=True)
    return Fingerprint(
        images=sum(len(part.labels_N) for part in parts),
        bytes=sum(sizes),
        content=_joined(contents),
        times=_joined(times) if any(times) else "",
    )


def _of_array(part: Any) -> tuple[int, bytes, bytes]:
    assert isinstance(part, ArrayPart)
    digest = hashlib.sha256(np.ascontiguousarray(part.pixels_NHWC).data)
    digest.update(part.labels_N.astype(np.int64).tobytes())
    return part.pixels_NHWC.nbytes, digest.digest(), b""


def _of_files(part: Any) -> tuple[int, bytes, bytes]:
    assert isinstance(part, FilePart)
    stamps_N2 = part.stamps()
    content = hashlib.sha256("\0".join(part.names).encode(errors="surrogateescape"))
    content.update(np.stack([stamps_N2[:, 0], part.labels_N.astype(np.int64)]).tobytes())
    times = hashlib.sha256(stamps_N2[:, 1].tobytes())
    return int(stamps_N2[:, 0].sum()), content.digest(), times.digest()


_TAKEN: dict[type, Callable[[Any], tuple[int, bytes, bytes]]] = {ArrayPart: _of_array, FilePart: _of_files}


def _joined(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()
