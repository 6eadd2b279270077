"""A network as a file for other runtimes: ONNX, or PyTorch's own .pt2; and the proof that ONNX Runtime agrees."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.fx.experimental import _config as export_config

from repfold import atomic
from repfold.deploy.from_pixels import FromPixels
from repfold.errors import RepFoldError, first_line
from repfold.fold.compare import distance
from repfold.models.carried import carried
from repfold.models.description import Description

# Other runtimes and other kernels sum in another order; more than this, relative, is another function.
TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Exported:
    """A written file, and which axes of its input are free: "batch", "height" and "width" where the network allows.

    ``error``: of what the file computes against the network, relative; None when nothing here can run it.
    """

    path: Path
    free_axes: tuple[str, ...]
    error: float | None = None


def export_onnx(
    network: nn.Module,
    example: torch.Tensor,
    path: str | os.PathLike[str],
    *,
    description: Description | None = None,
) -> Exported:
    """Write ``network`` as ONNX, weights in the file as initializers, batch and image size free where it allows.

    Args:
        example: an input that the network takes, [N, C, H, W], or [N, H, W, C] of ``FromPixels``.
        description: what the file says of the network: see ``models.carried``.

    The input is named "x", the first output "logits"; of a ``FromPixels`` "pixels" and "probabilities". The file is
    complete or not written at all: it replaces an older one when ONNX Runtime, where it is installed, has computed from
    it what the network computes.
    Raises: RepFoldError for a network in train mode, one that cannot be exported or computes something else when it
    is, or a missing onnx extra.
    """
    _require_onnx("onnx", "onnxscript")
    names = ("pixels", "probabilities") if isinstance(network, FromPixels) else ("x", "logits")

    def write(temporary: Path, x: torch.Tensor, shapes: dict[int, Any]) -> None:
        program = torch.onnx.export(
            network,
            (x,),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=[names[0]],
            output_names=[names[1]],
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.model.metadata_props.update(carried(description))
        program.save(str(temporary), external_data=False)

    check = check_onnx if importlib.util.find_spec("onnxruntime") and example.dtype in _NUMPY_HAS else None
    return _export(network, example, Path(path), write, check)


def export_pt2(
    network: nn.Module,
    example: torch.Tensor,
    path: str | os.PathLike[str],
    *,
    description: Description | None = None,
) -> Exported:
    """Write ``network`` as a .pt2 program, which ``torch.export.load`` reads without the code that built it.

    Arguments and errors are those of ``export_onnx``; PyTorch itself runs the file before it replaces an older one.
    """

    def write(temporary: Path, x: torch.Tensor, shapes: dict[int, Any]) -> None:
        archive = io.BytesIO()  # PyTorch's writer of files ends the process, with no exception, when the disk is full
        program = torch.export.export(network, (x,), dynamic_shapes=(shapes,))
        torch.export.save(program, archive, extra_files=carried(description))
        temporary.write_bytes(archive.getbuffer())

    return _export(network, example, Path(path), write, _check_pt2)


# File name suffix -> exporter.
EXPORTERS: dict[str, Callable[..., Exported]] = {
    ".onnx": export_onnx,
    ".pt2": export_pt2,
}


def check_onnx(path: str | os.PathLike[str], network: nn.Module, x: torch.Tensor) -> float:
    """Return max|y_onnx − y| / max|y|: the relative error of ONNX Runtime (CPU) against ``network`` on ``x``.

    Raises: RepFoldError when the file cannot be run, or onnxruntime is not installed.
    """
    session = onnx_session(path)
    y_onnx = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.detach().cpu().numpy()})[0])
    with torch.inference_mode():
        return _relative_error(path, y_onnx, first_output(network(x)))


def _check_pt2(path: str | os.PathLike[str], network: nn.Module, x: torch.Tensor) -> float:
    """The same for a .pt2 program, on the network's device."""
    with torch.inference_mode():
        y_loaded = first_output(torch.export.load(path).module()(x))
        return _relative_error(path, y_loaded, first_output(network(x)))


def _relative_error(path: str | os.PathLike[str], y_file: torch.Tensor, y: torch.Tensor) -> float:
    if y.shape != y_file.shape:
        raise RepFoldError(f"{path} answers with shape {list(y_file.shape)}, the network with {list(y.shape)}.")
    return distance(y_file.cpu(), y.cpu())[0]


_NUMPY_HAS = {torch.float64, torch.float32, torch.float16, torch.uint8}


def onnx_session(path: str | os.PathLike[str], *, threads: int = 0) -> Any:
    """Open an ONNX file for ONNX Runtime on the CPU with ``threads`` threads (0: as it thinks best)."""
    (runtime,) = _require_onnx("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common class below Exception
        raise RepFoldError(f"ONNX Runtime cannot open {path}: {error}") from error


def first_output(output: Any) -> torch.Tensor:
    """The logits of a network that may answer with several tensors: a tuple's or dict's first."""
    if isinstance(output, torch.Tensor):
        return output
    return first_output(next(iter(output.values() if isinstance(output, dict) else output)))


def _export(
    network: nn.Module,
    example: torch.Tensor,
    path: Path,
    write: Callable[[Path, torch.Tensor, dict[int, Any]], None],
    check: Callable[[Path, nn.Module, torch.Tensor], float] | None,
) -> Exported:
    if network.training:
        raise RepFoldError(
            "The network is in train mode; an exported one computes as in eval mode: call .eval() first."
        )
    batch: dict[int, Any] = {0: Dim("batch")}
    # A side of 1 would be permuted without a copy, which is another program.
    first, least = (1, 2) if isinstance(network, FromPixels) else (2, None)
    free = zip(range(first, example.dim()), ("height", "width", "depth")[: example.dim() - 2], strict=False)
    sizes = {axis: Dim(name, min=least) for axis, name in free}
    # An example of one image would let the exporter take the batch for a constant.
    images = example if len(example) > 1 else torch.cat([example, example])
    attempts: list[tuple[torch.Tensor, dict[int, Any]]] = [(images, batch | sizes), (images, batch), (example, {})]
    failures = []
    for x, shapes in attempts:
        try:
            with quiet(), _sizes_of_one_like_others(), atomic.replacing(path) as temporary:
                write(temporary, x, shapes)
                error = check(temporary, network, x) if check else None
                _refuse(error, example.dtype, path)
            return Exported(path, tuple(dim.__name__ for dim in shapes.values()), error)
        except (OSError, AnotherFunction):
            raise
        except Exception as error:  # the exporters run the user's forward, which may raise anything
            failures.append(error)
    last = failures[-1]
    raise RepFoldError(f"{type(network).__name__} cannot be exported to {path.suffix}: {first_line(last)}") from last


class AnotherFunction(RepFoldError):
    """An exported file computes something else than its network."""


def _refuse(error: float | None, dtype: torch.dtype, path: Path) -> None:
    """Raises: AnotherFunction unless the error is within the tolerance (NaN is not)."""
    if error is not None and not error <= TOLERANCES.get(dtype, 1e-3):
        raise AnotherFunction(
            f"What {path.suffix} makes of the network differs from it by {error:.1e} (relative), so nothing was "
            "written. Export it in another format, or report the network."
        )


def _sizes_of_one_like_others() -> AbstractContextManager[None]:
    """Keep torch.export from making a constant of every axis that is 1 somewhere on the example's way through.

    Without it a network whose last feature map is 1x1 for the example would take no other image size.
    """
    patch: AbstractContextManager[None] = export_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    return patch


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what exports and loads programs: it warns of optional packages, and logs what its errors say again."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch.fx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def has_onnx() -> bool:
    """Whether the onnx extra is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript", "onnxruntime"))


def _require_onnx(*names: str) -> list[Any]:
    try:
        return [importlib.import_module(name) for name in names]
    except ModuleNotFoundError as error:
        raise RepFoldError(
            f"ONNX needs the package '{error.name}', which is not installed. Install the extra: "
            "pip install 'repfold[onnx]'."
        ) from error
    except Exception as error:  # packages that do not fit each other fail in ways of their own while importing
        raise RepFoldError(
            f"The packages for ONNX cannot be imported ({type(error).__name__}: {error}). Install them again: "
            "pip install --force-reinstall 'repfold[onnx]'."
        ) from error
