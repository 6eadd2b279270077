"""The engine as a Python object: numpy arrays in, numpy arrays out."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from repfold import allowance
from repfold.engine.library import EngineError, library

_MESSAGE_BYTES = 2000
_LARGEST = 2**31 - 1  # that C's int holds


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    precision: str = "fp32",
    kernels: str = "auto",
    convolution: str = "auto",
) -> Engine:
    """Open a folded model file.

    ``threads`` defaults to the cores that this process may use, by its affinity and its control groups' quota; where
    the system grants no more threads, there are fewer. ``precision`` "bf16" computes in bfloat16 with sums in float32,
    where the CPU can. ``kernels`` ("avx512", "avx2", "scalar") and ``convolution`` ("direct", "2x2", ...) override what
    the engine would choose.
    Raises: EngineError for a file that is no folded model, or a layer that the engine cannot run, which it names.
    """
    return Engine(path, allowance.cores() if threads is None else threads, precision, kernels, convolution)


class _Network:
    """What the native library holds. A call holds this, so that it is freed when it is closed and no call under way."""

    def __init__(self, path: str | os.PathLike[str], threads: int, *texts: str) -> None:
        self._library = library()
        _check_int("threads", threads)
        arguments = (threads, allowance.memory(), *(text.encode() for text in texts))
        self._handle = _checked(self._library.repfold_engine_open, os.fsencode(path), *arguments)

    def __del__(self) -> None:
        if handle := getattr(self, "_handle", None):  # None when it could not be opened
            self._library.repfold_engine_close(handle)

    def ask(self, name: str) -> int:
        answer: int = getattr(self._library, f"repfold_engine_{name}")(self._handle)
        return answer

    def call(self, name: str, *arguments: Any) -> Any:
        """Raises: EngineError with the library's message."""
        return _checked(getattr(self._library, f"repfold_engine_{name}"), self._handle, *arguments)


class Engine:
    """A loaded network.

    It may be called from several threads, which then take turns, and be closed meanwhile: calls that are under way end
    as usual. A fork waits for the call under way; the engine then works in both processes.
    """

    def __init__(
        self, path: str | os.PathLike[str], threads: int, precision: str, kernels: str, convolution: str
    ) -> None:
        self._network: _Network | None = _Network(path, threads, precision, kernels, convolution)

    def __call__(self, images_NCHW: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Logits [N, classes] of images [N, C, H, W]; both float32. The GIL is released meanwhile.

        Raises: EngineError when the images do not suit the network, or the memory that this process may use.
        """
        images = np.ascontiguousarray(images_NCHW, dtype=np.float32)
        if images.ndim != 4:
            raise EngineError(f"The images must have shape [N, C, H, W], not {list(images.shape)}.")
        network, shape = self._open_network(), _sizes(*images.shape)
        size = network.call("outputs", *shape)
        logits = np.empty((shape[0], size // shape[0]), np.float32)
        network.call("run", images.ctypes.data, *shape, logits.ctypes.data, size)
        return logits

    @property
    def channels(self) -> int | None:
        """Channels of the images that the network wants; None when any will do."""
        return self._open_network().ask("channels") or None

    @property
    def image_size(self) -> int | None:
        """Side of the square images that the model was made for, where its file says so."""
        return self._open_network().ask("image_size") or None

    def plan(self, batch: int, channels: int, height: int, width: int) -> dict[str, Any]:
        """What a call on such images does: each layer's algorithm and tile, and the bytes of weights and buffers."""
        layers: dict[str, Any] = json.loads(
            self._open_network().call("describe", *_sizes(batch, channels, height, width))
        )
        return layers

    def close(self) -> None:
        """Free the network, as soon as no call is under way; further calls raise EngineError."""
        self._network = None

    def _open_network(self) -> _Network:
        if (network := self._network) is None:
            raise EngineError("This engine is closed. Load the model again.")
        return network


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns. Raises: EngineError with its message when that is 0 or NULL."""
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    result = function(*arguments, message, _MESSAGE_BYTES)
    if not result:
        raise EngineError(message.value.decode(errors="replace"))
    return result


def _sizes(*shape: int) -> tuple[int, ...]:
    for name, size in zip(("batch", "channels", "height", "width"), shape, strict=True):
        _check_int(name, size)
    return shape


def _check_int(name: str, value: int) -> None:
    """C's int would keep the last 32 bits of it."""
    if not -_LARGEST <= value <= _LARGEST:
        raise EngineError(f"{name} {value} is too large a number.")
