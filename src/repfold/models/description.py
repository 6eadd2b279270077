"""The description of a network in its model file: architecture, classes, preprocessing, form."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from repfold.errors import RepFoldError
from repfold.limits import LARGEST_SIDE, LONGEST_NAME, MOST_CHANNELS, MOST_CLASSES

Form = Literal["train", "folded"]

# What every network is built with anyway.
RESERVED_OPTIONS = ("name", "num_classes", "preset", "in_channels")


@dataclass(frozen=True)
class Architecture:
    """The arguments of ``models.create`` that build the network's train form.

    ``expand``: the structure that then takes the place of each convolution, or ""; of a network of MODELS that is in
    its file's graph instead.
    """

    name: str
    num_classes: int | None = None
    preset: str = "imagenet"
    in_channels: int = 3
    options: Mapping[str, Any] = field(default_factory=dict)
    expand: str = ""


@dataclass(frozen=True)
class Preprocessing:
    """From an image file to the network's input: x = (uint8/255 − mean)/std of the centre square.

    ``image_size`` is the side in pixels of the square that the network sees, ``resize`` the short side in pixels
    before the centre crop; ``mean`` and ``std`` hold one value per channel, of pixels scaled to 0..1.
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
                f"{self.channels} channels: give one per channel."
            )
        if not 0 < self.image_size <= self.resize:
            raise RepFoldError(
                f"preprocessing.image_size is {self.image_size} and resize {self.resize}: the centre crop needs "
                "0 < image_size <= resize."
            )
        if self.resize > LARGEST_SIDE:
            raise RepFoldError(
                f"preprocessing.image_size is {self.image_size} and resize {self.resize}: at most {LARGEST_SIDE} px."
            )
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise RepFoldError(f"preprocessing.mean is {self.mean} and std {self.std}: every value must be finite.")
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
        content = dataclasses.asdict(self)
        if self.architecture is not None and not self.architecture.expand:
            del content["architecture"]["expand"]  # which readers of an earlier version do not know
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Description:
        """Read what ``to_dict`` wrote. Raises: RepFoldError that names the field that is missing or malformed."""
        form = content.get("form")
        if form not in ("train", "folded"):
            raise RepFoldError(f"The model description's form is {form!r}, not 'train' or 'folded'.")
        classes = content.get("classes")
        if classes is not None and not _is_list_of_names(classes):
            raise RepFoldError(
                f"The model description's classes are not a list of names: 1 to {MOST_CLASSES:,} texts of at most "
                f"{LONGEST_NAME} characters."
            )
        architecture = _optional(Architecture, content.get("architecture"), "architecture")
        if classes is not None and architecture is not None and architecture.num_classes not in (None, len(classes)):
            raise RepFoldError(
                f"The model description names {len(classes)} classes, but its network has "
                f"{architecture.num_classes}: the names are of another network."
            )
        return cls(
            architecture=architecture,
            classes=None if classes is None else tuple(classes),
            preprocessing=_optional(Preprocessing, content.get("preprocessing"), "preprocessing"),
            form=form,
        )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MOST_CLASSES and all(map(_is_name, value))


def _is_list_of_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(v) in (int, float) and abs(v) <= 1e6 for v in value)


def _is_options(value: object) -> bool:
    return isinstance(value, dict) and all(name.isidentifier() and name not in RESERVED_OPTIONS for name in value)


# Field name -> how a JSON value of it is checked; fields of both dataclasses, whose names do not clash.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "name": _is_name,
    "num_classes": lambda value: value is None or (type(value) is int and 0 < value <= MOST_CLASSES),
    "preset": _is_name,
    "in_channels": lambda value: type(value) is int and 0 < value <= MOST_CHANNELS,
    "options": _is_options,
    "expand": _is_name,
    "image_size": lambda value: type(value) is int,
    "resize": lambda value: type(value) is int,
    "mean": _is_list_of_numbers,
    "std": _is_list_of_numbers,
    "channels": lambda value: type(value) is int,
}


def _optional(kind: type, content: object, name: str) -> Any:
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
            raise RepFoldError(f"The model description's {name}.{key} has a wrong value: {value!r:.100}.")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()})
