"""The flags of commands that open a model, and what they open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from torch import Tensor

    from repfold.models import Model
    from repfold.models.file import RunForm

_UNSET: Any = tyro.conf.arg(help_behavior_hint="")  # no default worth telling


@dataclass(frozen=True)
class CodeFlags:
    """What the user says of the code that a model file or a run needs.

    Attributes:
        factory: Your own package.module:factory that builds a model file's network.
        trust: Run the code that a run or a model file names: only for what you trained yourself.
    """

    factory: Annotated[str | None, _UNSET] = None
    trust: Annotated[bool, _UNSET] = False

    def load(self, path: Path, form: RunForm) -> Model:
        """Load a model file or a run directory."""
        from repfold import models

        return models.load_model(path, form=form, factory=self.factory, trust=self.trust)


@dataclass(frozen=True)
class ModelFlags(CodeFlags):
    """How MODEL is opened, which may also be a network by name.

    Attributes:
        example: Shape of an input, such as 1,3,224,224. Known for trained models.
        weights: Checkpoint to load into a network given by name.
        num_classes: Number of classes of a network given by name.
    """

    example: Annotated[str | None, _UNSET] = None
    weights: Annotated[Path | None, _UNSET] = None
    num_classes: Annotated[int | None, _UNSET] = None

    def open(self, model: str) -> tuple[Model, Tensor]:
        """Open MODEL; return it and an input that it takes."""
        from repfold import models

        opened = models.open_model(**self.opening(model))
        return opened, models.example_input(opened, parse_shape(self.example))

    def opening(self, model: str) -> dict[str, Any]:
        """Return the arguments of ``open_model`` that these flags make; JSON-able."""
        return {
            "model": model,
            "factory": self.factory,
            "trust": self.trust,
            "weights": None if self.weights is None else str(self.weights),
            "num_classes": self.num_classes,
            "example": parse_shape(self.example),
        }


def parse_shape(text: str | None) -> tuple[int, ...] | None:
    """Read "1,3,224,224" (or 1x3x224x224)."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise RepFoldError(f"--example '{text}' is not a shape such as 1,3,224,224.") from error


def output_path(output: Path | None, model: str, name: str, formats: Iterable[str]) -> Path:
    """``output``, or the file ``name`` in the run directory MODEL; its name has to end in one of ``formats``."""
    if output is None:
        if not Path(model).is_dir():
            raise RepFoldError(f"Where to? {model} is not a run directory: give the file with -o, such as -o {name}.")
        return Path(model) / name
    if output.suffix not in formats:
        raise RepFoldError(
            f"{output}: unknown format '{output.suffix}'. The name has to end in {' or '.join(formats)}."
        )
    return output
