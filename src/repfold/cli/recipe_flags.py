"""Every field of a recipe as a flag; what is not given is left to the recipe."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from repfold.train.recipe import Recipe, field_types


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(str(choice) for choice in typing.get_args(kind)) + "}"
    names = [item.__name__ for item in typing.get_args(kind) or (kind,)]
    return " ".join(names).upper()


# A flag without an argument; None where it is not given.
_SWITCH = PrimitiveConstructorSpec[Any](
    nargs=0,
    metavar="",
    instance_from_str=lambda words: True,
    is_instance=lambda instance: instance is None or isinstance(instance, bool),
    str_from_instance=lambda instance: [],
)
# What most people set, shown first.
_COMMON = ("epochs", "model", "image_size", "batch", "lr", "warmup", "init", "expand", "augment", "seed")
# Help's other groups, each by the first of its fields in the order of the recipe.
_GROUPS = {"data": "data", "augmentation": "crop", "network": "model", "optimization": "epochs", "machine": "device"}


def _flags_of(field: dataclasses.Field[Any]) -> list[tuple[str, Any, Any]]:
    """The flags of a field of the recipe, as fields of a dataclass: two of a switch, else one."""
    kind, explanation = field_types()[field.name], field.metadata["explanation"]
    if kind is bool:
        switches = ((field.name, explanation), (f"no_{field.name}", "do not"))
        return [(name, _option(bool, text, _SWITCH, hint=""), None) for name, text in switches]
    hint = f"(default: {_told(field.default)})"
    return [(field.name, _option(kind, explanation, metavar=_metavar(kind), hint=hint), None)]


def _option(kind: Any, text: str, *markers: Any, hint: str, metavar: str | None = None) -> Any:
    described = tyro.conf.arg(help=text, metavar=metavar, help_behavior_hint=hint, prefix_name=False)
    return Annotated[(kind | None, *markers, described)]


def _dataclass(name: str, flags: list[tuple[str, Any, Any]]) -> type:
    fields = [(flag, annotation, dataclasses.field(default=default)) for flag, annotation, default in flags]
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _make_flags() -> type:
    """A dataclass of the common flags and, for each group, a dataclass of its own: by these help is divided."""
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    common = [flag for name in _COMMON for flag in _flags_of(fields[name])]
    members: dict[str, list[tuple[str, Any, Any]]] = {title: [] for title in _GROUPS}
    beginnings, title = {first: title for title, first in _GROUPS.items()}, ""
    for name, field in fields.items():
        title = beginnings.get(name, title)
        if name not in _COMMON and name != "data":  # which is the positional argument
            members[title] += _flags_of(field)
    groups = [(title, kind := _dataclass(title.title(), flags), kind()) for title, flags in members.items()]
    return _dataclass("RecipeFlags", [*common, *groups])


def _told(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_told, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "none"


if TYPE_CHECKING:
    RecipeFlags = Any
else:
    RecipeFlags = _make_flags()


def given(flags: RecipeFlags) -> dict[str, Any]:
    """Return the recipe fields that were given as flags."""
    values = vars(flags) | {name: value for title in _GROUPS for name, value in vars(getattr(flags, title)).items()}
    chosen = {name: value for name, value in values.items() if value is not None and name not in _GROUPS}
    switched_off = {name.removeprefix("no_"): False for name in chosen if name not in field_types()}
    return {name: value for name, value in chosen.items() if name in field_types()} | switched_off
