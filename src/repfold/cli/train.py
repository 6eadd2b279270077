"""``repfold train``: from data to a trained, folded, proved, exported network and its report."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold import run_files
from repfold.cli.fit_budget import fit
from repfold.cli.recipe_flags import RecipeFlags, given
from repfold.cli.resume_words import Resume
from repfold.cli.terminal import echo
from repfold.errors import RepFoldError

if TYPE_CHECKING:
    from repfold.train import Recipe

_GRACE_SECONDS = 10.0
FINE_TUNE = "fine-tune"


def train(
    data: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    settings: Annotated[RecipeFlags, tyro.conf.arg(name="")] = RecipeFlags(),  # noqa: B008
    minutes: float | None = None,
    recipe: str | None = None,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    resume: Resume = "no",
    override: bool = False,
    trust: bool = False,
    finish: bool = True,
    pictures: bool = True,
    tensorboard: bool = False,
    json: bool = False,
) -> None:
    """Train a network; then fold it, prove the fold, export it, time it and write the report.

    The defaults are overridden by the recipe, and this by flags. On a CPU without a recipe, model, image size and
    epochs that are not given are picked to fit --minutes instead.

    Args:
        data: A folder of class folders of images, CIFAR or IDX files, or digits.
        minutes: Minutes that training may take: model, image size and epochs are picked to fit, where they are not
            given. 20 on a CPU if there is no recipe.
        recipe: A recipe that comes with RepFold (see repfold recipes), a TOML file, or a run directory.
        out: The run directory; runs/MODEL-DATA if not given, or runs/DATA where the model is picked.
        resume: Go on with the run in --out where its checkpoint is (--resume alone, or yes); or begin it when there is
            none yet (auto), so that one command serves for the start and every restart.
        override: With --resume, accept settings and data that differ from the checkpoint's.
        trust: Run the code that a recipe file, a run or a teacher names: only for what you made yourself.
        finish: Only train: do not fold, export, time and report afterwards.
        pictures: Show no mistakes in the report, whose pictures are otherwise a part of the run.
        tensorboard: Write the record as TensorBoard event files into the run directory too; a run that has them goes
            on with them.
        json: Print one JSON object; progress goes to stderr.
    """
    from repfold.cli.console import Console
    from repfold.cli.train_and_finish import finish_with_display, print_result, train_with_display

    leads = os.environ.get("RANK", "0") == "0"
    console = Console(stderr=json)
    try:
        flags = given(settings)
        chosen, directory = _run_of(data, recipe, flags, out, resume, trust)
        if not (directory / run_files.RECIPE).exists():  # else it goes on, or is refused
            chosen = fit(chosen, flags, minutes, console, from_recipe=recipe is not None)
        resumed = resume != "no"
        more = {"resume": resumed, "override": override, "trust": trust, "tensorboard": tensorboard}
        result = train_with_display(chosen, directory, console, **more)
        stages = finish_with_display(directory, chosen, console, pictures=pictures) if leads and finish else []
    except RepFoldError:
        if leads:
            raise
        # The leading process says the same; it would be ended before it could, if this one were gone first.
        time.sleep(_GRACE_SECONDS)
        sys.exit(2)
    if leads:
        print_result(console, result, stages, json=json)


def _run_of(
    data: str | None, name: str | None, flags: dict[str, object], out: Path | None, resume: Resume, trust: bool
) -> tuple[Recipe, Path]:
    """What to train, and where.

    A run that begins without a directory gets one that is free, but with auto the one that it will be found in again.
    """
    if resume == "yes" and out is None:
        raise RepFoldError("--resume needs the run to go on with: --out RUN.")
    if out is None and resume == "auto":
        out = _directories(_recipe(data, name, flags, None, trust), named=_names_model(name, flags))[0]
    recipe = _recipe(data, name, flags, out if resume != "no" else None, trust)
    if out is not None:
        try:
            str(out).encode()
        except UnicodeEncodeError as error:
            raise RepFoldError(f"--out {out}: the name holds bytes that are no text. Choose another.") from error
        return recipe, out
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RepFoldError("With several processes say where the run goes: --out RUN.")
    return recipe, next(path for path in _directories(recipe, named=_names_model(name, flags)) if not path.exists())


def _recipe(data: str | None, name: str | None, flags: dict[str, object], resumed: Path | None, trust: bool) -> Recipe:
    """The defaults, overridden by the recipe (or that of the run to go on with), and this by flags."""
    from repfold.train import Recipe, recipe_code, recipe_file, starting

    base, source, told = Recipe(), None, frozenset[str]()
    if resumed is not None and name is None and (resumed / run_files.RECIPE).exists():
        source = str(resumed / run_files.RECIPE)
        base, told = recipe_file.read(source), recipe_file.names(source)
    elif resumed is not None and data is None and name is None:
        raise RepFoldError(
            f"{resumed} holds no run to go on with (no {run_files.RECIPE}). Give the directory of a run."
        )
    elif name is None and flags.get("init") and "lr" not in flags:
        name = FINE_TUNE
        echo("repfold: --init without --recipe or --lr: trains as the recipe fine-tune says.", error=True)
    if name is not None:
        base, source = recipe_file.find(name), name if recipe_file.is_path(name) else None
        told = recipe_file.names(name)
    if data is not None:
        flags = flags | {"data": data}
    chosen = base.replace(**flags)
    if source is not None and not trust:
        recipe_code.check(chosen, flags, source)
    return starting.complete(chosen, told | flags.keys())


def _names_model(name: str | None, flags: dict[str, object]) -> bool:
    return name is not None or not flags.keys().isdisjoint({"model", "init"})


def _directories(recipe: Recipe, *, named: bool) -> list[Path]:
    """Where a run goes that is given no directory: the first of these that is free. ``named``: whether its model is."""
    model = recipe.model.replace(":", ".").replace("/", "-") + "-" if named else ""
    name = model + os.path.basename(os.path.realpath(recipe.data))
    return [Path("runs") / (name + suffix) for suffix in ("", *(f"-{number}" for number in range(2, 10_000)))]
