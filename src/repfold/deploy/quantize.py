"""Post-training quantization to int8 by ONNX Runtime's own tools: static, calibrated on images, weights per channel."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from repfold import atomic, models
from repfold.data import Loader
from repfold.data.transforms import to_input
from repfold.deploy.accuracy import Accuracy, accuracies
from repfold.deploy.compare import check_sizes
from repfold.deploy.export import export_onnx
from repfold.deploy.runtimes import open_artefact
from repfold.errors import RepFoldError
from repfold.models import Preprocessing

Calibration = Literal["minmax", "entropy", "percentile"]
_METHODS = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
_MOST_IMAGES = 100_000


@dataclass(frozen=True)
class Quantized:
    """What a network was calibrated with, its accuracy and the bytes of its ONNX file before and after."""

    images: int
    calibration: Calibration
    before: Accuracy
    after: Accuracy
    bytes_before: int
    bytes_after: int

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return asdict(self)


def quantize_model(
    model: models.Model,
    calibration_images: Loader,
    validation_images: Loader,
    path: str | os.PathLike[str],
    *,
    images: int = 256,
    calibration: Calibration = "minmax",
    threads: int | None = None,
    on_stage: Callable[[str], None] = lambda name: None,
) -> Quantized:
    """Fold a model, quantize it into ``path`` as ``quantize_onnx`` does, and measure both in ONNX Runtime.

    Args:
        calibration_images, validation_images: loaders with ``train=False``.

    Raises: RepFoldError as ``quantize_onnx`` does, and for threads that make no sense.
    """
    check_sizes((1,), threads)
    seen = model.description.preprocessing
    if seen is None:
        raise RepFoldError("The model does not say how images are to be preprocessed: save it with a description.")
    plain = models.fold_model(model, models.example_input(model))
    with tempfile.TemporaryDirectory() as directory:
        on_stage("exporting")
        source = Path(directory) / "model.onnx"
        export_onnx(plain.network, models.example_input(plain), source, description=plain.description)
        on_stage("calibrating")
        given = quantize_onnx(source, calibration_images, seen, path, images=images, calibration=calibration)
        on_stage("measuring")
        threads = threads or torch.get_num_threads()
        calls = {
            name: open_artefact(file, threads=threads) for name, file in (("before", source), ("after", Path(path)))
        }
        measured = accuracies(calls, validation_images, seen)
        sizes = source.stat().st_size, Path(path).stat().st_size
    return Quantized(given, calibration, measured["before"], measured["after"], *sizes)


def quantize_onnx(
    source: Path,
    calibration_images: Loader,
    seen: Preprocessing,
    path: str | os.PathLike[str],
    *,
    images: int = 256,
    calibration: Calibration = "minmax",
) -> int:
    """Write a float32 ONNX file as an int8 one (QDQ): weights int8 a channel, activations uint8 a tensor.

    Args:
        calibration_images: of the training part, of all classes; the ranges of the activations are taken from them.
        images: how many of them.
        calibration: how ranges follow from values: all of them, the least entropy lost, or 99.99 % of them.

    The number of images used is returned. The file keeps its metadata. On processors without VNNI the weights keep 7
    bits, since sums of 8-bit products saturate there.

    Raises: RepFoldError without images, or ONNX Runtime's tools.
    """
    check_images(images)
    tools = _tools()
    reader = _reader(tools, calibration_images, seen, images)
    with _quiet(), atomic.replacing(path) as temporary:
        tools.quantize_static(
            str(source),
            str(temporary),
            reader,
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not _has_vnni(),
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            calibrate_method=getattr(tools.CalibrationMethod, _METHODS[calibration]),
        )
        _keep_metadata(source, temporary)
    given: int = reader.given
    return given


def _tools() -> Any:
    try:
        return importlib.import_module("onnxruntime.quantization")
    except ImportError as error:
        raise RepFoldError(
            f"Quantization needs ONNX Runtime's tools ({error}). Install the extra: pip install 'repfold[onnx]'."
        ) from error


def check_images(images: int) -> None:
    """Raise RepFoldError for a number of images that nobody calibrates on."""
    if not 1 <= images <= _MOST_IMAGES:
        raise RepFoldError(f"--images {images}: calibrate on 1 to {_MOST_IMAGES:,} images; 256 are enough.")


def _reader(tools: Any, loader: Loader, seen: Preprocessing, images: int) -> Any:
    """What ONNX Runtime asks for one batch after the other."""

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.given = 0
            self.batches = self._batches()

        def _batches(self) -> Iterator[np.ndarray]:
            for x_uint8, _ in islice(loader.epoch(0), images):
                x_NCHW = to_input(x_uint8[: images - self.given], seen.mean, seen.std, channels_last=False)
                self.given += len(x_NCHW)
                yield np.ascontiguousarray(x_NCHW.numpy())
                if self.given >= images:
                    return

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"x": batch}

    return Reader()


def _keep_metadata(source: Path, file: Path) -> None:
    onnx = importlib.import_module("onnx")
    model = onnx.load(str(file))
    known = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    onnx.helper.set_model_props(model, known)
    onnx.save(model, str(file))


def _has_vnni() -> bool:
    """Whether the processor sums 8-bit products without saturation on the way; where that is unknown, it does not."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence its advice to preprocess the file first: a folded network has no norm left to fold."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
