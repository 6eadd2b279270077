"""Whether data are still what they were: a digest of what they consist of, without decoding a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from repfold.data.parts import Part


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the images of a source.

    Attributes:
        bytes: what they take.
        content: of the files' names, sizes and labels, or of the pixels where these are in memory to begin with.
        times: of when the files were last changed; "" where there are none.
    """

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
    sizes, contents, times = zip(*(part.digests() for part in parts), strict=True)
    return Fingerprint(
        images=sum(len(part.labels_N) for part in parts),
        bytes=sum(sizes),
        content=_joined(contents),
        times=_joined(times) if any(times) else "",
    )


def _joined(digests: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(digests)).hexdigest()
