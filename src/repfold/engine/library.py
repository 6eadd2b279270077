"""Find and load the native library, or say why it is absent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

VERSION = 4  # of the C interface

_NAMES = {"darwin": "librepfold_engine.dylib", "win32": "repfold_engine.dll"}
_HANDLE, _TEXT, _INT, _SIZE = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "version": (_INT, []),
    "cpu": (_TEXT, []),
    "open": (_HANDLE, [_TEXT, _INT, _INT, _SIZE, _TEXT, _TEXT, _TEXT, _TEXT, _SIZE]),
    "run": (_SIZE, [_HANDLE, _HANDLE, _INT, _INT, _INT, _INT, _HANDLE, _SIZE, _TEXT, _SIZE]),
    "run_call": (_SIZE, [_HANDLE]),
    "channels": (_INT, [_HANDLE]),
    "image_size": (_INT, [_HANDLE]),
    "outputs": (_SIZE, [_HANDLE, _INT, _INT, _INT, _INT, _TEXT, _SIZE]),
    "output_sizes": (_INT, [_HANDLE, _INT, _INT, _INT, _INT, _HANDLE, _TEXT, _SIZE]),
    "time_layers": (_SIZE, [_HANDLE, _HANDLE, _INT, _INT, _INT, _INT, _HANDLE, _SIZE, _TEXT, _SIZE]),
    "describe": (_TEXT, [_HANDLE, _INT, _INT, _INT, _INT, _TEXT, _SIZE]),
    "close": (None, [_HANDLE]),
}


class EngineError(ValueError):
    """A model that the engine cannot run, a wrong argument, or an engine that is not there: what, why, what to do."""


def available() -> str | None:
    """None when the engine can be used, else the reason why not."""
    try:
        library()
    except EngineError as error:
        return str(error)
    return None


def cpu_kernels() -> tuple[str, ...]:
    """The kernels that this CPU can run, best first.

    Behind them "bf16" when it computes in bfloat16, and "amx" when it has a unit of its own for that.
    """
    return tuple(library().repfold_engine_cpu().decode().split())


@cache
def library() -> ctypes.CDLL:
    """The loaded library, whose calls release the GIL. Raises: EngineError when it is absent or of another version."""
    path = find()
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(f"RepFold's engine at {path} cannot be loaded: {error}.") from error
    if loaded.repfold_engine_version() != VERSION:  # first: it may lack functions
        raise EngineError(f"The engine at {path} is of another version than this package. Install RepFold again.")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, f"repfold_engine_{name}")
        function.restype, function.argtypes = result, arguments
    return loaded


def find() -> Path:
    """The library's path. Raises: EngineError when there is none."""
    name = _NAMES.get(sys.platform, "librepfold_engine.so")
    if chosen := os.environ.get("REPFOLD_ENGINE"):
        return Path(chosen)
    places = [Path(__file__).parent / name]
    with contextlib.suppress(metadata.PackageNotFoundError):
        # An editable install keeps the sources where they are and puts what it built beside the other packages.
        places.append(Path(str(metadata.distribution("repfold").locate_file(f"repfold/engine/{name}"))))
    for place in places:
        if place.is_file():
            return place
    raise EngineError(
        "RepFold's native engine is absent: this installation was made without a C++17 compiler. "
        "Install one (for example g++) and install RepFold again, or set REPFOLD_ENGINE to the library's path."
    )
