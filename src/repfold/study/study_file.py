"""Studies as TOML files: read, one scale of them chosen, every arm checked to be a recipe; and those of RepFold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from repfold import regular, toml
from repfold.errors import RepFoldError, nearest
from repfold.study.grid import make_arms
from repfold.study.metrics import METRICS
from repfold.study.study import SCALES, Published, Study
from repfold.train import recipe_file
from repfold.train.recipe import Recipe, check_names

# Key -> the type of its value. What a scale may say of itself, and what a file may say besides.
_SCALABLE: dict[str, type | tuple[type, ...]] = {
    "recipe": str,
    "seeds": (list, int),
    "reference": str,
    "settings": dict,
    "arms": dict,
    "axes": dict,
    "before": dict,
    "processes": int,
}
_OF_SCALE = {**_SCALABLE, "about": str, "drop": list}
_OF_FILE = {
    **_SCALABLE,
    "name": str,
    "title": str,
    "metric": str,
    "epoch": str,
    "margin": (int, float),
    "claims": dict,
    "published": list,
    "scales": dict,
    "best_over": (str, list),
}
_OF_PUBLISHED = {"arm": str, "value": (int, float), "std": (int, float), "metric": str, "source": str, "differs": str}
_NEEDED = ("name", "recipe", "seeds", "reference", "metric")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def find(name_or_path: str, *, scale: str = "", data: str = "") -> Study:
    """Return a shipped study, by name, or that of a file (a dot or slash in its name).

    ``scale``: one of those that it has; "": small, or the first that it has. ``data``: in place of the recipes' own.

    Raises: RepFoldError, naming the file and the nearest match, for whatever in it is wrong.
    """
    return parse(read_text(name_or_path), scale=scale, data=data, name=name_or_path)


def read_text(name_or_path: str) -> str:
    """Return the text of a shipped study or of a file. Raises: RepFoldError when there is none."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    if not recipe_file.is_path(name_or_path):
        raise RepFoldError(f"Unknown study '{name_or_path}'. {nearest(name_or_path, known)} A file ends in .toml.")
    try:
        return regular.read_text(Path(name_or_path), toml.MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise RepFoldError(f"{name_or_path} cannot be read as a study: {error}. Give a TOML file.") from error


def shipped() -> dict[str, str]:
    """Return the studies that come with RepFold: name -> TOML text."""
    folder = resources.files("repfold") / "studies"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}


def parse(text: str, *, scale: str = "", data: str = "", name: str = "the study") -> Study:
    """Return the study that ``text`` describes at one of its scales. Raises: RepFoldError, beginning with ``name``."""
    try:
        content = _checked(toml.parse(text), _OF_FILE, "")
        chosen, own = _scale(content, scale)
        return _study(_at_scale(content, own), chosen, str(own.get("about", "")), data)
    except RepFoldError as error:
        raise RepFoldError(f"{name}: {error}") from error


def scales_of(text: str) -> dict[str, str]:
    """Return the scales that a study's text has, and what each says of itself."""
    scales = toml.parse(text).get("scales", {})
    return {name: str(own.get("about", "")) for name, own in scales.items()}


def _study(content: Mapping[str, Any], scale: str, about: str, data: str) -> Study:
    for key in _NEEDED:
        if key not in content:
            raise RepFoldError(f"It has no {key}, which a study needs, as in: {_EXAMPLES[key]}.")
    if not _NAME.fullmatch(content["name"]):
        raise RepFoldError(f"name is {content['name']!r}: use letters, digits, '-', '_' and '.', at most 64.")
    metric, epoch = content["metric"], content.get("epoch", "last")
    if metric not in METRICS:
        raise RepFoldError(f"Unknown metric '{metric}'. {nearest(metric, METRICS)}")
    if epoch not in ("last", "best"):
        raise RepFoldError(f"epoch is '{epoch}'; it is 'last' or 'best'.")
    settings = {**content.get("settings", {}), **({"data": data} if data else {})}
    check_names(settings)
    before = {key: _before(key, fields, content["recipe"], settings) for key, fields in _tables(content, "before")}
    axes = {axis: _values(axis, values) for axis, values in content.get("axes", {}).items()}
    arms = make_arms(
        dict(_tables(content, "arms")),
        axes,
        recipe=content["recipe"],
        settings=settings,
        reference=content["reference"],
        claims=content.get("claims", {}),
    )
    best_over = content.get("best_over", [])
    best_over = (best_over,) if isinstance(best_over, str) else tuple(best_over)
    for axis in best_over:
        if axis not in axes:
            raise RepFoldError(f"best_over names '{axis}', which is no axis. {nearest(str(axis), axes)}")
    return Study(
        name=content["name"],
        title=content.get("title", content["name"]),
        arms=arms,
        seeds=_seeds(content["seeds"]),
        metric=metric,
        epoch=epoch,
        margin=float(content.get("margin", 0.0)),
        before=before,
        published=tuple(_published(item, metric) for item in content.get("published", [])),
        scale=scale,
        about=about,
        best_over=best_over,
        processes=_processes(content.get("processes", 1)),
    )


def _scale(content: Mapping[str, Any], wanted: str) -> tuple[str, Mapping[str, Any]]:
    scales = {name: _checked(own, _OF_SCALE, f"scales.{name}.") for name, own in _tables(content, "scales")}
    for name in scales:
        if name not in SCALES:
            raise RepFoldError(f"Unknown scale '{name}'. Known: {', '.join(SCALES)}.")
    if wanted and wanted not in scales:
        has = f"It has: {', '.join(scales)}." if scales else "It has none: leave --scale out."
        raise RepFoldError(f"It has no scale '{wanted}'. {has}")
    if not scales:
        return "", {}
    chosen = wanted or ("small" if "small" in scales else next(iter(scales)))
    return chosen, scales[chosen]


def _at_scale(content: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file's content with what the scale says of itself put over it, table by table."""
    merged = {
        **content,
        **{key: own[key] for key in ("recipe", "seeds", "reference", "axes", "processes") if key in own},
    }
    merged["settings"] = {**content.get("settings", {}), **own.get("settings", {})}
    for key in ("arms", "before"):
        ours, theirs = dict(_tables(content, key)), dict(_tables(own, key))
        merged[key] = {name: {**ours.get(name, {}), **theirs.get(name, {})} for name in {**ours, **theirs}}
    for name in own.get("drop", []):
        if name not in merged["arms"]:
            raise RepFoldError(f"drop names '{name}', which is no arm. {nearest(str(name), merged['arms'])}")
        del merged["arms"][name]
    merged["claims"] = {
        name: text for name, text in content.get("claims", {}).items() if name not in own.get("drop", [])
    }
    return merged


def _before(name: str, fields: Mapping[str, Any], recipe: str, settings: Mapping[str, Any]) -> Recipe:
    both = {"recipe": recipe, **settings, **fields}
    try:
        return recipe_file.find(str(both.pop("recipe"))).replace(**both)
    except RepFoldError as error:
        raise RepFoldError(f"before.{name}: {error}") from error


def _seeds(value: list[Any] | int) -> tuple[int, ...]:
    seeds = list(range(value)) if isinstance(value, int) else value
    if not seeds or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise RepFoldError(f"seeds is {value}: give different whole numbers, at least one, as [0, 1, 2], or how many.")
    if len(seeds) > 10_000:
        raise RepFoldError(f"seeds is {value}: nobody trains so many.")
    return tuple(seeds)


def _processes(value: int) -> int:
    if not 1 <= value <= 64:
        raise RepFoldError(f"processes is {value}: how many processes of one machine train a trial together, 1 to 64.")
    return value


def _values(axis: str, values: Any) -> list[Any]:
    if axis != "recipe":
        check_names({axis: None})
    if not isinstance(values, list):
        raise RepFoldError(f"axes.{axis} is {values!r:.100}: give a list of values.")
    return values


def _published(item: Any, metric: str) -> Published:
    if not isinstance(item, dict):
        raise RepFoldError("published is a list of tables: [[published]].")
    _checked(item, _OF_PUBLISHED, "published.")
    if missing := [key for key in ("arm", "value", "source") if key not in item]:
        raise RepFoldError(f"An entry of published has no {missing[0]}: {item!r:.200}")
    return Published(**{"metric": metric, **item})


def _tables(content: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    for name, table in content.get(key, {}).items():
        if not isinstance(table, dict):
            raise RepFoldError(f"{key}.{name} is {table!r:.100}: write a table, [{key}.{name}].")
    return list(content.get(key, {}).items())


def _checked(content: Mapping[str, Any], known: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    for key, value in content.items():
        if key not in known:
            raise RepFoldError(f"Unknown key '{where}{key}'. {nearest(key, known)}{_HINTS.get(where, '')}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
            wanted = " or ".join(_KINDS[kind] for kind in kinds)
            raise RepFoldError(f"{where}{key} is {value!r:.100}; it must be {wanted}.")
    return content


_KINDS = {str: "text", list: "a list", int: "a whole number", float: "a number", dict: "a table"}
_HINTS = {"": " Fields of the recipe for all arms belong into [settings]."}
_EXAMPLES = {
    "name": 'name = "warmup"',
    "recipe": 'recipe = "digits"',
    "seeds": "seeds = [0, 1, 2, 3, 4]",
    "reference": 'reference = "none"',
    "metric": 'metric = "val_top1"',
}
