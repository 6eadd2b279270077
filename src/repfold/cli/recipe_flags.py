"""Every field of a recipe as a flag; what is not given is left to the recipe."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from repfold.train.recipe import Recipe, field_types


def _switch(value: bool) -> PrimitiveConstructorSpec[Any]:
    """A flag without an argument that stands for ``value``."""
    return PrimitiveConstructorSpec(
        nargs=0,
        metavar="",
        instance_from_str=lambda words: value,
        is_instance=lambda instance: instance is None or isinstance(instance, bool),
        str_from_instance=lambda instance: [],
    )


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "{" + ",".join(str(choice) for choice in typing.get_args(kind)) + "}"
    names = [item.__name__ for item in typing.get_args(kind) or (kind,)]
    return " ".join(names).upper()


def _make_flags() -> type:
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(Recipe):
        kind, explanation = field_types()[field.name], field.metadata["explanation"]
        if field.name == "data":  # the positional argument
            continue
        if kind is bool:
            for name, value, text in ((field.name, True, explanation), (f"no_{field.name}", False, "do not")):
                annotation = Annotated[bool | None, _switch(value), tyro.conf.arg(help=text, help_behavior_hint="")]
                fields.append((name, annotation, None))
            continue
        hint = f"(default: {_told(field.default)})"
        described = tyro.conf.arg(help=explanation, metavar=_metavar(kind), help_behavior_hint=hint)
        fields.append((field.name, Annotated[kind | None, described], None))
    return dataclasses.make_dataclass("RecipeFlags", [(n, t, dataclasses.field(default=d)) for n, t, d in fields])


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
    values = {field.name: getattr(flags, field.name) for field in dataclasses.fields(flags)}
    set_values = {name: value for name, value in values.items() if value is not None}
    return {name if name in field_types() else name.removeprefix("no_"): value for name, value in set_values.items()}
