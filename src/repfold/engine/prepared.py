"""Calls prepared for one size of images: what can be made once is, so that a call costs one crossing into C."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from repfold.engine.library import EngineError, library

MESSAGE_BYTES = 2000
_COPIED_BYTES = 1 << 16  # below it copying is quicker than asking numpy for an address

_FLOAT32 = np.dtype(np.float32)

Images = npt.NDArray[np.float32]


class _Call(ctypes.Structure):
    """``repfold_engine_call`` of the C interface."""

    _fields_ = (
        ("engine", ctypes.c_void_p),
        ("images", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("capacity", ctypes.c_size_t),
        ("error", ctypes.c_void_p),
        ("error_size", ctypes.c_size_t),
        ("n", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
    )


class Prepared:
    """Of one engine and shape; used by one caller at a time."""

    def __init__(self, handle: int, shape: tuple[int, ...], output_shape: tuple[int, ...]) -> None:
        self._run = library().repfold_engine_run_call
        self._message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self._output_shape = output_shape
        count, size = int(np.prod(output_shape)), int(np.prod(shape))
        call = _Call(handle, None, None, count, ctypes.addressof(self._message), MESSAGE_BYTES, *shape)
        self._call, self._at = call, ctypes.addressof(call)
        self._images = self._outputs = None
        if 4 * size <= _COPIED_BYTES:
            self._images = np.zeros(shape, np.float32)
            call.images = self._images.ctypes.data
        if 4 * count <= _COPIED_BYTES:
            self._outputs = np.zeros(output_shape, np.float32)
            call.outputs = self._outputs.ctypes.data

    def __call__(self, images: Any, out: Images | None) -> Images:
        """The outputs of images of the shape, in ``out`` where it is given. Raises: EngineError."""
        if out is not None:
            _check_out(out, self._output_shape)
        if self._images is not None:
            self._images[...] = images
        else:
            images = np.ascontiguousarray(images, np.float32)
            self._call.images = images.ctypes.data
        outputs = self._outputs
        if outputs is None:
            outputs = np.empty(self._output_shape, np.float32) if out is None else out
            self._call.outputs = outputs.ctypes.data
        if not self._run(self._at):
            raise EngineError(self._message.value.decode(errors="replace"))
        if outputs is not self._outputs:
            return outputs
        if out is None:
            return outputs.copy()
        out[...] = outputs
        return out


def _check_out(out: Images, shape: tuple[int, ...]) -> None:
    fits = isinstance(out, np.ndarray) and out.dtype == _FLOAT32 and out.shape == shape
    if not (fits and out.flags.c_contiguous and out.flags.writeable):
        raise EngineError(f"out must be a writeable, C-contiguous float32 array of shape {list(shape)}.")
