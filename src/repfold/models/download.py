"""A file behind an http(s) address: fetched once, whole or not at all, and kept."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import torch

import repfold
from repfold import atomic
from repfold.errors import RepFoldError

_SECONDS = 30.0  # that a server may be silent
# As torch.hub has it: resnet18-f37072fd.pth begins its SHA-256 with f37072fd.
_HASHED = re.compile(r"-([a-f0-9]{8,64})\.\w+$")


def fetch(address: str) -> Path:
    """Return the file at ``address``, from the cache (in torch.hub's folder) where it has been fetched before.

    A name that ends in a hash, as those of torch.hub do, is checked against what came.

    Raises: RepFoldError when the server cannot be reached, refuses, ends too early, or sends another file.
    """
    parts = urllib.parse.urlsplit(address)
    name = Path(urllib.parse.unquote(parts.path)).name
    if not parts.netloc or not name:
        raise RepFoldError(f"'{address}' is no address of a file: give one such as https://example.org/weights.pth.")
    key = hashlib.sha256(address.encode()).hexdigest()[:16]
    path = Path(torch.hub.get_dir()) / "repfold" / key / name
    if not path.exists():
        with atomic.replacing(path) as temporary:
            _receive(address, temporary)
            _check(address, name, temporary)
    return path


def _receive(address: str, path: Path) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": f"repfold/{repfold.__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
            told = answer.headers.get("Content-Length")
            if told is not None and int(told) != file.tell():
                raise http.client.IncompleteRead(b"", int(told) - file.tell())
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        raise RepFoldError(
            f"{address} cannot be fetched: {error}. Check the address and the network, or fetch the file yourself and "
            "give its path."
        ) from error


def _check(address: str, name: str, path: Path) -> None:
    wanted = _HASHED.search(name)
    if wanted is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted[1]):
        raise RepFoldError(
            f"{address} is not what its name says: its SHA-256 begins with {found[:8]}, not {wanted[1]}. It was "
            "exchanged, or came damaged: try again, or take it from another place."
        )
