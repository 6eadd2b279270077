"""Reading the pickles in which CIFAR is published without running what a pickle may hold."""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from repfold.errors import RepFoldError

_reconstruct: Any = np.empty(0).__reduce__()[0]  # NumPy's own, under whichever module name this version has

# All that an array of plain numbers needs. Everything else, so every way to run code, is refused.
ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,  # how Python 3 writes bytes in the old protocols
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise RepFoldError(f"it asks for {module}.{name}, which no array of numbers needs") from None


def load_arrays(content: bytes, name: str) -> dict[str, object]:
    """Return the dictionary pickled in ``content``, its keys as text. ``name`` is the file's, for errors.

    Only builtin containers, numbers, text and NumPy arrays are admitted.

    Raises: RepFoldError when the pickle is damaged, asks for anything else, or is no dictionary.
    """
    try:
        found = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # damaged pickles raise anything
        raise RepFoldError(
            f"{name} cannot be read as a CIFAR pickle: {error}. Get the data set again from its publisher."
        ) from error
    if not isinstance(found, dict):
        raise RepFoldError(f"{name} holds a {type(found).__name__}, not the dictionary of a CIFAR batch.")
    return {key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key): found[key] for key in found}
