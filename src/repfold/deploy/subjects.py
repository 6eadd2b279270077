"""What is timed: a network in its forms, or a file as it is; each gives the calls of a batch size, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from repfold import models, run_files
from repfold.deploy.bench import onnx_form, pytorch_form
from repfold.deploy.export import export_onnx, onnx_session
from repfold.deploy.memory import Load
from repfold.deploy.runtimes import ARTEFACTS, Call, Material, engine_of, open_artefact, runtime_named, runtime_of
from repfold.errors import RepFoldError
from repfold.models import described

TRAIN_FORM, FOLDED = "train form, PyTorch", "folded, PyTorch"
COMPILED, ONNX_RUNTIME = "folded, torch.compile", "folded, ONNX Runtime"
Form = Callable[[], Any]


class Subject(Protocol):
    """What is timed."""

    def forms(self, batch: int, threads: int) -> dict[str, Form]:
        """Return the calls that run ``batch`` images to their end, by name."""

    def loads(self, batch: int, threads: int) -> dict[str, Load]:
        """Return what a process of its own loads and runs for the same names, as far as it can."""


@dataclass(frozen=True)
class NetworkForms:
    """A network's forms: with branches (if ``network``), folded, and the folded one in engines.

    Args:
        x_NCHW: an input; its image size and dtype are timed.
        directory: for the files that are made.
        engines: besides PyTorch and ONNX Runtime.
        precision: of RepFold's engine.
        opening: the arguments of ``open_model`` that give the network with branches again.
    """

    network: nn.Module | None
    plain: models.Model
    x_NCHW: torch.Tensor
    directory: Path
    onnx: bool = True
    compiled: bool = False
    engines: Sequence[str] = ()
    precision: str = "fp32"
    opening: Mapping[str, Any] | None = None
    _files: dict[str, Path] = field(default_factory=dict)

    def forms(self, batch: int, threads: int) -> dict[str, Form]:
        """Return the calls. Raises: RepFoldError when an engine is missing, or cannot run the network."""
        x_NCHW = torch.randn(batch, *self.x_NCHW.shape[1:], dtype=self.x_NCHW.dtype, device=self.x_NCHW.device)
        forms: dict[str, Form] = {}
        if self.network is not None:
            forms[TRAIN_FORM] = pytorch_form(self.network, x_NCHW)
        forms[FOLDED] = pytorch_form(self.plain.network, x_NCHW)
        if self.compiled:
            forms[COMPILED] = pytorch_form(self.plain.network, x_NCHW, compiled=True)
        if self.onnx:
            forms[ONNX_RUNTIME] = onnx_form(self._onnx(), x_NCHW, threads=threads)
        images = x_NCHW.detach().cpu().float().numpy()
        for engine in self.engines:
            call = _opened(engine, self._file(engine), images, threads, self._precision(engine))
            forms[engine_form(engine)] = lambda call=call: call(images)  # type: ignore[misc]
        return forms

    def loads(self, batch: int, threads: int) -> dict[str, Load]:
        """Return the loads; compiled forms take what their compiler does, and are left out."""
        shape = (batch, *self.x_NCHW.shape[1:])
        loads = {FOLDED: Load(str(self._file("repfold")), shape, threads, opening={})}
        if self.network is not None and self.opening is not None:
            opening = dict(self.opening)
            loads[TRAIN_FORM] = Load(str(opening.pop("model")), shape, threads, opening=opening)
        if self.onnx:
            loads[ONNX_RUNTIME] = Load(str(self._onnx()), shape, threads, "onnxruntime")
        for engine in self.engines:
            loads[engine_form(engine)] = Load(str(self._file(engine)), shape, threads, engine, self._precision(engine))
        return loads

    def _precision(self, engine: str) -> str:
        return self.precision if engine == "repfold" else "fp32"

    def _onnx(self) -> Path:
        return self._made("onnx", run_files.ONNX, lambda path: export_onnx(self.plain.network, self.x_NCHW, path))

    def _file(self, engine: str) -> Path:
        runtime = runtime_named(engine)
        if (missing := runtime.missing()) is not None:
            raise RepFoldError(f"{runtime.title}: {missing}.")
        onnx = self._onnx() if runtime.suffix in (".onnx", ".xml", ".param") else None
        material = Material(self.plain, self.x_NCHW, onnx)
        return self._made(engine, f"{engine}{runtime.suffix}", lambda path: runtime.write(material, "fp32", path))

    def _made(self, name: str, file: str, write: Callable[[Path], object]) -> Path:
        if name not in self._files:
            write(self.directory / file)
            self._files[name] = self.directory / file
        return self._files[name]


def _opened(engine: str, path: Path, images: np.ndarray, threads: int, precision: str) -> Call:
    """Open a file, and run it once. Raises: RepFoldError when the engine cannot."""
    call = open_artefact(path, runtime=runtime_named(engine), threads=threads, precision=precision)
    try:
        call(images)
    except Exception as error:  # each engine has exceptions of its own
        raise RepFoldError(f"{runtime_named(engine).title} cannot run the network: {error!s:.300}") from error
    return call


@dataclass(frozen=True)
class Artefact:
    """A file as it is, in the engine that its name's ending means."""

    path: Path
    shape: tuple[int, ...]
    precision: str = "fp32"

    def forms(self, batch: int, threads: int) -> dict[str, Form]:
        """Return its call. Raises: RepFoldError when it cannot be opened."""
        x_NCHW = np.random.default_rng(0).standard_normal((batch, *self.shape[1:])).astype(np.float32)
        call = _opened(engine_of(self.path), self.path, x_NCHW, threads, self.precision)
        return {runtime_of(self.path).title: lambda: call(x_NCHW)}

    def loads(self, batch: int, threads: int) -> dict[str, Load]:
        """Return its load."""
        shape, engine = (batch, *self.shape[1:]), engine_of(self.path)
        return {runtime_of(self.path).title: Load(str(self.path), shape, threads, engine, self.precision)}


def engine_form(engine: str) -> str:
    """Return how tables call the folded network in an engine."""
    return "folded, RepFold's engine" if engine == "repfold" else f"folded, {runtime_named(engine).title}"


def is_artefact(path: str | Path) -> bool:
    """Whether ``path`` is a file that is timed as it is: all but model files, of which there are several forms."""
    suffix = Path(path).suffix
    return suffix != ".safetensors" and suffix in ARTEFACTS and Path(path).is_file()


def artefact(path: str | Path, shape: Sequence[int] | None = None) -> Artefact:
    """Return a file to be timed; without a shape, an ONNX file's own input, else one image of 3 x 224 x 224."""
    if shape is None and Path(path).suffix == ".onnx":
        session = onnx_session(path)
        seen = described(session.get_modelmeta().custom_metadata_map).preprocessing
        usual = (1, 3, 224, 224) if seen is None else (1, seen.channels, seen.image_size, seen.image_size)
        sizes = zip(session.get_inputs()[0].shape, usual, strict=False)
        shape = [size if isinstance(size, int) else own for size, own in sizes]
    return Artefact(Path(path), tuple(shape or (1, 3, 224, 224)))
