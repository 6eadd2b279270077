"""The flags of commands that run a model in any of the engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.model_flags import CodeFlags

if TYPE_CHECKING:
    from repfold.deploy.artefact import Opened
    from repfold.models.file import RunForm

_FILES: Any = tyro.conf.arg(help_behavior_hint="(default: by the file)")


@dataclass(frozen=True)
class EngineFlags(CodeFlags):
    """What a model is run with.

    Attributes:
        engine: What computes: for a run directory PyTorch, for other files what their name's ending means (.onnx is
            onnxruntime); repfold is RepFold's own engine.
        precision: What it computes in; a quantized file computes in int8 anyway.
    """

    engine: Annotated[
        Literal["torch", "torch.compile", "repfold", "onnxruntime", "openvino", "ncnn"] | None, _FILES
    ] = None
    precision: Literal["fp32", "bf16"] = "fp32"

    def open(self, path: Path, form: RunForm) -> Opened:
        """Open a run directory, a model file, or the file of an engine."""
        from repfold.deploy.artefact import open_artefact_model

        return open_artefact_model(
            path, lambda ours: self.load(ours, form), engine=self.engine, precision=self.precision
        )
