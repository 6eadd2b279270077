"""What a model file says about its network: architecture, classes, preprocessing, form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repfold.errors import RepFoldError

Form = Literal["train", "folded"]


@dataclass(frozen=True)
class Architecture:
    """The arguments of ``models.create`` that build the network's train form."""

    name: str
    num_classes: int | None = None
    preset: str = "imagenet"
    in_channels: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to the network's input: x = (uint8/255 − mean)/std of the centre square.

    ``image_size`` is the side in pixels of the square that the network sees, ``resize`` the short side in pixels
    before the centre crop; ``mean`` and ``std`` hold one value a channel, of pixels scaled to 0..1.
    """

    image_size: int
    resize: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: Literal[1, 3] = 3

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise RepFoldError(f"preprocessing.channels is {self.channels}; images have 1 or 3.")
        if not len(self.mean) == len(self.std) == self.channels:
            raise RepFoldError(
                f"preprocessing.mean and .std have {len(self.mean)} and {len(self.std)} values for "
                f"{self.channels} channels: give one a channel."
            )
        if not 0 < self.image_size <= self.resize:
            raise RepFoldError(
                f"preprocessing.image_size is {self.image_size} and resize {self.resize}: the centre crop needs "
                "0 < image_size <= resize."
            )
        if not all(value > 0 for value in self.std):
            raise RepFoldError(f"preprocessing.std is {self.std}: every value must be above 0.")


@dataclass(frozen=True)
class Description:
    """All that is known of a network besides its tensors. ``architecture`` is None for a network nobody named."""

    architecture: Architecture | None = None
    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    form: Form = "train"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: nested dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Description:
        """Read what ``to_dict`` wrote. Raises: RepFoldError that names the field that is missing or malformed."""
        form = content.get("form")
        if form not in ("train", "folded"):
            raise RepFoldError(f"The model description's form is {form!r}, not 'train' or 'folded'.")
        classes = content.get("classes")
        if classes is not None and not (isinstance(classes, list) and all(isinstance(c, str) for c in classes)):
            raise RepFoldError("The model description's classes are not a list of names.")
        return cls(
            architecture=_optional(Architecture, content.get("architecture"), "architecture"),
            classes=None if classes is None else tuple(classes),
            preprocessing=_optional(Preprocessing, content.get("preprocessing"), "preprocessing"),
            form=form,
        )


# Field name -> how a JSON value of it is checked; fields of both dataclasses, whose names do not clash.
_CHECKS = {
    "name": lambda value: isinstance(value, str),
    "num_classes": lambda value: value is None or (type(value) is int and value > 0),
    "preset": lambda value: isinstance(value, str),
    "in_channels": lambda value: type(value) is int and value > 0,
    "options": lambda value: isinstance(value, dict),
    "image_size": lambda value: type(value) is int,
    "resize": lambda value: type(value) is int,
    "mean": lambda value: isinstance(value, list) and all(type(v) in (int, float) for v in value),
    "std": lambda value: isinstance(value, list) and all(type(v) in (int, float) for v in value),
    "channels": lambda value: type(value) is int,
}


def _optional(kind: type, content: Any, name: str) -> Any:
    """Build the dataclass ``kind`` from a JSON object, or None from null."""
    if content is None:
        return None
    if not isinstance(content, dict):
        raise RepFoldError(f"The model description's {name} is not an object of named fields.")
    required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
    known = {f.name for f in dataclasses.fields(kind)}
    if missing := required - content.keys():
        raise RepFoldError(f"The model description's {name} lacks {', '.join(sorted(missing))}.")
    if unknown := content.keys() - known:
        raise RepFoldError(f"The model description's {name} has unknown fields: {', '.join(sorted(unknown))}.")
    for key, value in content.items():
        if not _CHECKS[key](value):
            raise RepFoldError(f"The model description's {name}.{key} has a wrong value: {value!r}.")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
