"""The engine as a Python object: numpy arrays in, numpy arrays out."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repfold import allowance
from repfold.engine import tuning
from repfold.engine.library import EngineError, library
from repfold.engine.prepared import MESSAGE_BYTES, Images, Prepared
from repfold.engine.tuning import Tuning

_SHAPES_KEPT = 64  # for which calls are prepared
_LARGEST = 2**31 - 1  # that C's int holds
_MOST_CONTEXTS = 256  # that an engine takes


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    precision: str = "fp32",
    kernels: str = "auto",
    convolution: str = "auto",
    contexts: int | None = None,
    strict: bool = False,
    tuned: bool = False,
) -> Engine:
    """Open a folded model file.

    ``threads`` defaults to the cores that this process may use, by its affinity and its control groups' quota; where
    the system grants no more threads, there are fewer. ``precision`` "bf16" computes in bfloat16 with sums in
    float32, where the CPU can. ``kernels`` ("avx512", "avx2", "scalar"; of bf16 "amx", "avx512") and ``convolution``
    ("direct", "2x2", ...) override what the engine would choose. Layers between which a result would leave a core's
    cache are computed together, a band of rows after the other; behind ``convolution`` the word "whole" ("auto whole")
    has none so computed and "bands" all that can be, which changes no bit. ``contexts``: calls that run at once and
    share the weights, by default twice as many as the cores have room for with so many threads each, since a context
    that changes hands is idle for a while; further calls wait, in the order in which they came. ``strict``: the same
    bits for every number of threads, contexts and images in a batch, at some cost in speed. ``tuned``: each layer's
    algorithm is what ``tune`` found to be the fastest; where it has not run on this file and processor with these
    settings, it does so first, on one image of the model's own size.
    Raises: EngineError for a file that is no folded model, or a layer that the engine cannot run, which it names.
    """
    cores = allowance.cores()
    threads = cores if threads is None else threads
    if contexts is None:
        contexts = min(2 * max(1, cores // max(1, threads)), _MOST_CONTEXTS)
    if strict:
        if convolution != "auto":
            raise EngineError(f"strict chooses the convolutions itself: leave convolution '{convolution}' out.")
        convolution = "strict"
    if tuned:
        if convolution != "auto":
            raise EngineError(f"tuned chooses the convolutions itself: leave '{convolution}' out.")
        settings = (threads, precision, kernels)
        known = tuning.read(tuning.kept_in(Path(path), *settings))
        found = known or tune(path, threads=threads, precision=precision, kernels=kernels)
        convolution = tuning.as_text(found.choices)
    return Engine(path, threads, contexts, precision, kernels, convolution)


def tune(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int, int, int] | None = None,
    threads: int | None = None,
    precision: str = "fp32",
    kernels: str = "auto",
    advance: Callable[[float], None] = lambda share: None,
) -> Tuning:
    """Time every algorithm of every convolution of a model file on this machine, and keep what is fastest for ``load``.

    Takes about a hundred calls of the network. ``shape``: of the images, by default one of the model's own size.
    ``advance`` is told which share is done. What it finds depends on the machine's mood: ``load`` without ``tuned`` is
    the same everywhere. Raises: EngineError as ``load`` does.
    """
    threads = allowance.cores() if threads is None else threads
    usual = Engine(path, threads, 1, precision, kernels, "auto")
    if shape is None:
        size = usual.image_size or 224
        shape = (1, usual.channels or 3, size, size)
    found = tuning.find(lambda text: Engine(path, threads, 1, precision, kernels, text), precision, shape, advance)
    tuning.write(tuning.kept_in(Path(path), threads, precision, kernels), found)
    return found


class _Network:
    """What the native library holds. A call holds this, so that it is freed when it is closed and no call under way."""

    def __init__(self, path: str | os.PathLike[str], threads: int, contexts: int, *texts: str) -> None:
        self._library = library()
        self._prepared: dict[tuple[int, ...], list[Prepared]] = {}  # by the images' shape; those that no call uses
        _check_int("threads", threads)
        _check_int("contexts", contexts)
        arguments = (threads, contexts, allowance.memory(), *(text.encode() for text in texts))
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

    def run(self, images: Any, shape: tuple[int, ...], out: Images | None) -> Images:
        """By a call that was prepared for the shape; several threads that come at once have one each."""
        unused = self._prepared.get(shape)
        if unused is None:
            unused = self._first_of(shape)
        try:
            prepared = unused.pop()
        except IndexError:
            prepared = self._prepare(shape)
        try:
            return prepared(images, out)
        finally:
            unused.append(prepared)

    def _first_of(self, shape: tuple[int, ...]) -> list[Prepared]:
        prepared = self._prepare(shape)
        if len(self._prepared) >= _SHAPES_KEPT:
            self._prepared = {}
        return self._prepared.setdefault(shape, [prepared])

    def _prepare(self, shape: tuple[int, ...]) -> Prepared:
        return Prepared(self._handle, shape, self.output_shape(shape))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = (ctypes.c_int64 * 8)()
        rank = self.call("output_sizes", *_sizes(*shape), sizes)
        return tuple(sizes[:rank])


class Engine:
    """A loaded network.

    It may be called from several threads: as many calls as it has contexts run at once, the others wait. It may be
    closed meanwhile: calls that are under way end as usual. A fork waits for the calls under way; the engine then works
    in both processes.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int, contexts: int, *texts: str) -> None:
        self._network: _Network | None = _Network(path, threads, contexts, *texts)

    def __call__(self, images_NCHW: npt.ArrayLike, *, out: Images | None = None) -> Images:
        """What the network returns of images [N, C, H, W], logits [N, classes] say; float32. The GIL is released.

        ``out``: an array of that shape to write into, C-contiguous float32, which spares a new one.
        Raises: EngineError when the images do not suit the network, or the memory that this process may use.
        """
        shape = images_NCHW.shape if isinstance(images_NCHW, np.ndarray) else np.shape(images_NCHW)
        if len(shape) != 4:
            raise EngineError(f"The images must have shape [N, C, H, W], not {list(shape)}.")
        return self._open_network().run(images_NCHW, shape, out)

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

    def time_layers(self, images_NCHW: Images) -> npt.NDArray[np.float64]:
        """The seconds that each of the plan's layers takes in one call on such images."""
        images = np.ascontiguousarray(images_NCHW, np.float32)
        layers = self.plan(*images.shape)["layers"]
        seconds = np.zeros(len(layers))
        sizes = _sizes(*images.shape)
        self._open_network().call("time_layers", images.ctypes.data, *sizes, seconds.ctypes.data, len(layers))
        return seconds

    def close(self) -> None:
        """Free the network, as soon as no call is under way; further calls raise EngineError."""
        self._network = None

    def _open_network(self) -> _Network:
        if (network := self._network) is None:
            raise EngineError("This engine is closed. Load the model again.")
        return network


def _checked(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns. Raises: EngineError with its message when that is 0 or NULL."""
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    result = function(*arguments, message, MESSAGE_BYTES)
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
