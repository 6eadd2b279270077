"""The engine as a Python object: numpy arrays in, numpy arrays out."""

from __future__ import annotations

import ctypes
import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from repfold.engine.library import EngineError, library

_MESSAGE_BYTES = 2000


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    precision: str = "fp32",
    kernels: str = "auto",
    convolution: str = "auto",
) -> Engine:
    """Open a folded model file.

    ``threads`` defaults to the CPUs that this process may use. ``precision`` "bf16" computes in bfloat16 with sums in
    float32, where the CPU can. ``kernels`` ("avx512", "avx2", "scalar") and ``convolution`` ("direct", "2x2", ...)
    override what the engine would choose.
    Raises: EngineError for a file that is no folded model, or a layer that the engine cannot run, which it names.
    """
    return Engine(path, _usable_cpus() if threads is None else threads, precision, kernels, convolution)


class Engine:
    """A loaded network. It may be called from several threads, which then take turns."""

    def __init__(
        self, path: str | os.PathLike[str], threads: int, precision: str, kernels: str, convolution: str
    ) -> None:
        self._library = library()
        self._handle: int | None = None
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        texts = (precision.encode(), kernels.encode(), convolution.encode())
        handle = self._library.repfold_engine_open(os.fsencode(path), threads, *texts, message, _MESSAGE_BYTES)
        if not handle:
            raise EngineError(message.value.decode(errors="replace"))
        self._handle = handle

    def __call__(self, images_NCHW: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Logits [N, classes] of images [N, C, H, W]; both float32. The GIL is released meanwhile.

        Raises: EngineError when the images do not suit the network.
        """
        images = np.ascontiguousarray(images_NCHW, dtype=np.float32)
        if images.ndim != 4:
            raise EngineError(f"The images must have shape [N, C, H, W], not {list(images.shape)}.")
        handle, message = self._open_handle(), ctypes.create_string_buffer(_MESSAGE_BYTES)
        size = self._library.repfold_engine_outputs(handle, *images.shape, message, _MESSAGE_BYTES)
        if size == 0:
            raise EngineError(message.value.decode(errors="replace"))
        logits = np.empty((images.shape[0], size // images.shape[0]), np.float32)
        written = self._library.repfold_engine_run(
            handle, images.ctypes.data, *images.shape, logits.ctypes.data, size, message, _MESSAGE_BYTES
        )
        if written != size:
            raise EngineError(message.value.decode(errors="replace"))
        return logits

    @property
    def channels(self) -> int | None:
        """Channels of the images that the network wants; None when any will do."""
        return self._library.repfold_engine_channels(self._open_handle()) or None

    @property
    def image_size(self) -> int | None:
        """Side of the square images that the model was made for, where its file says so."""
        return self._library.repfold_engine_image_size(self._open_handle()) or None

    def plan(self, batch: int, channels: int, height: int, width: int) -> dict[str, Any]:
        """What a call on such images does: each layer's algorithm and tile, and the bytes of weights and buffers."""
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        text = self._library.repfold_engine_describe(
            self._open_handle(), batch, channels, height, width, message, _MESSAGE_BYTES
        )
        if text is None:
            raise EngineError(message.value.decode(errors="replace"))
        return json.loads(text)

    def close(self) -> None:
        """Free the network; further calls raise EngineError."""
        if self._handle is not None:
            self._library.repfold_engine_close(self._handle)
            self._handle = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()

    def _open_handle(self) -> int:
        if self._handle is None:
            raise EngineError("This engine is closed. Load the model again.")
        return self._handle


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
