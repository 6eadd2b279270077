"""``repfold study``: comparisons over several seeds, run, shown at any time, and what can be concluded from them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.terminal import echo, print_json
from repfold.errors import RepFoldError
from repfold.signals import Interrupted

if TYPE_CHECKING:
    from repfold.study.study import Study
    from repfold.study.study_directory import Shown, StudyDirectory

File = Annotated[Path, tyro.conf.Positional]
Out = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]


def run(
    file: File,
    /,
    *,
    out: Out = None,
    scale: Literal["", "small", "medium", "full"] = "",
    data: str = "",
    jobs: int = 0,
    threads: int = 0,
    hours: float | None = None,
    on: Literal["here", "ray"] = "here",
    trials: Path | None = None,
    dry_run: bool = False,
    keep: bool = False,
    trust: bool = False,
    json: bool = False,
) -> None:
    """Train what is missing of a study, seed by seed; then write the table and the page of what there is.

    Interrupted, killed, or extended by an arm or a seed: the same command trains only what is missing.

    Args:
        file: A TOML file, or the name of a study that comes with RepFold (see repfold study list).
        out: Where table.json and report.html go; runs/NAME if not given.
        scale: The size at which to run it, where its file has several; small if not given.
        data: The data of every arm, in place of the recipes' own.
        jobs: Trials at a time; 0: one a core, or one a GPU.
        threads: Of each trial; 0: the cores, divided among the jobs.
        hours: Begin no round of a seed that does not fit into so many hours.
        on: Processes here, or a Ray cluster (RAY_ADDRESS, or the one of this machine).
        trials: Where trials are kept, for all studies; beside --out if not given.
        dry_run: Only say what would be trained, and how long that takes, measured on a few steps of each arm.
        keep: Keep the trained networks too.
        trust: Run the code that the study names: only for what you made yourself, or trust.
        json: Print one JSON object; progress goes to stderr.
    """
    from repfold.cli.console import Console
    from repfold.study.run_study import Resources, refuse_code, run_study

    if (jobs, threads) < (0, 0) or min(jobs, threads) < 0 or (hours is not None and not 0 <= hours < 1e9):
        raise RepFoldError("--jobs and --threads are whole numbers from 0, --hours is a number from 0.")
    place, text = _open(file, out, scale, data, trials)
    resources = Resources(jobs, threads, hours, keep, trust, on)
    console = Console(stderr=json)
    if dry_run:
        refuse_code(place.study, resources)
        _show_plan(place, resources, console, json)
        return
    place.begin(text)
    try:
        from repfold.cli.study_display import StudyDisplay

        with StudyDisplay(console, place.study) as display:
            run_study(place.study, place.store, resources, display)
    except Interrupted as stopped:
        shown = place.write(measure=False)
        done = f"{shown.results.finished} of {shown.results.total} trials are finished, and shown in {place.path}."
        stopped.status = f"{done} The others go on where they were with: {place.command}"
        raise
    shown = place.write(measure=True)
    _print(place, shown, json)
    if shown.results.failed:
        sys.exit(2)


def report(
    file: File,
    /,
    *,
    out: Out = None,
    scale: Literal["", "small", "medium", "full"] = "",
    data: str = "",
    trials: Path | None = None,
    export: tuple[Path, ...] = (),
    json: bool = False,
) -> None:
    """Write the table and the page of what there is of a study, finished or not; nothing is trained.

    Args:
        file: The study's file or name, or the directory of one that was run.
        out: Where table.json and report.html go; runs/NAME if not given.
        scale: As it was run.
        data: As it was run.
        trials: Where its trials are kept; beside --out if not given.
        export: Also write the table: files that end in .csv, .tex or .md (a page of results with its provenance).
        json: Print one JSON object.
    """
    from repfold.study.export import write_table
    from repfold.study.study_directory import made

    said = made(file) if file.is_dir() else {}
    if said:
        out, scale, data = out or file, scale or said.get("scale", ""), data or said.get("data", "")
        trials = trials or Path(said["trials"])
        file = file / "study.toml"
    place, text = _open(file, out, scale, data, trials)
    place = replace(place, command=said.get("command", place.command))
    place.begin(text)
    shown = place.write(measure=False)
    for path in export:
        write_table(path, shown, place.command)
        echo(f"The table: {path}", error=json)
    _print(place, shown, json)


def list_studies(*, json: bool = False) -> None:
    """List the studies that come with RepFold, and the scales at which each can be run.

    Args:
        json: Print one JSON object.
    """
    from repfold.study import study_file
    from repfold.train.recipe_file import first_comment

    texts = study_file.shipped()
    if json:
        print_json(
            {name: {"about": first_comment(text), "scales": study_file.scales_of(text)} for name, text in texts.items()}
        )
        return
    for name, text in texts.items():
        echo(f"{name}\n    {first_comment(text)}")
        for scale, about in study_file.scales_of(text).items():
            echo(f"    {scale:<7} {about}")
    echo("\nRun one with: repfold study run NAME --out DIR; print its file with: repfold study show NAME")


def show(name: Annotated[str, tyro.conf.Positional], /) -> None:
    """Print the file of a study, to begin one's own with.

    Args:
        name: The name of a study that comes with RepFold, or a file.
    """
    from repfold.study import study_file

    echo(study_file.read_text(name), end="")


COMMANDS: dict[str, Callable[..., Any]] = {"run": run, "report": report, "list": list_studies, "show": show}


def study(arguments: list[str]) -> None:
    """Run a comparison over several seeds, show it at any time, and say what can be concluded: repfold study --help."""
    tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="repfold study", args=arguments)


def _open(file: Path, out: Path | None, scale: str, data: str, trials: Path | None) -> tuple[StudyDirectory, str]:
    from repfold.study import study_file
    from repfold.study.store import Store
    from repfold.study.study_directory import StudyDirectory

    found = study_file.find(str(file), scale=scale, data=data)
    out = out or Path("runs") / found.name
    store = Store(trials or out.absolute().parent / "trials")
    return StudyDirectory(out, found, store, _command(file, out, scale, data, trials), data), study_file.read_text(
        str(file)
    )


def _command(file: Path, out: Path, scale: str, data: str, trials: Path | None) -> str:
    """What trains what is missing."""
    options = {"--scale": scale, "--data": data, "--trials": str(trials or "")}
    given = [word for flag, value in options.items() if value for word in (flag, value)]
    return shlex.join(["repfold", "study", "run", str(file), "--out", str(out), *given])


def _show_plan(place: StudyDirectory, resources: Any, console: Any, json: bool) -> None:
    from dataclasses import asdict

    from repfold.cli.study_display import in_words
    from repfold.report.tables import Table, columns, to_text
    from repfold.study.plan import make_plan

    with console.status("measuring a few steps of each arm ..."):
        plan = make_plan(place.study, place.store, *resources.divided(), trust=resources.trust)
    if json:
        print_json(asdict(plan) | {"missing": plan.missing, "seconds": plan.seconds})
        return
    _say_study(place.study)
    rows = tuple(
        (arm.name, str(arm.trials), str(arm.finished), arm.problem or in_words(arm.seconds or 0.0)) for arm in plan.arms
    )
    echo(to_text(Table(columns("arm", "#trials", "#finished", "a trial takes"), rows)))
    total = f"{plan.missing} trials to train, {plan.jobs} at a time on {plan.threads} threads each"
    echo(f"\n{total}: about {in_words(plan.seconds)}, measured on a few steps of each kind of arm.")


def _say_study(found: Study) -> None:
    scale = f", scale {found.scale}" + (f" ({found.about})" if found.about else "") if found.scale else ""
    echo(f"{found.title}\n{found.name}{scale}: {len(found.arms)} arms, {len(found.seeds)} seeds, {found.metric}\n")


def _print(place: StudyDirectory, shown: Shown, json: bool) -> None:
    from repfold.report.tables import Column, Table, to_text
    from repfold.study import table
    from repfold.study.sentences import sentences

    results = shown.results
    rows = table.rows(results, shown.latency)
    if json:
        counts = {"finished": results.finished, "total": results.total, "failed": results.failed}
        print_json({"directory": str(place.path), "study": place.study.name, **counts, "arms": rows})
        return
    used = table.columns(results, shown.latency)
    cells = tuple(tuple(column.text(row) for column in used) for row in rows)
    echo(to_text(Table(tuple(Column(column.title, column.number) for column in used), cells)))
    echo()
    for text in sentences(results):
        echo(text)
    for result in results.arms:
        for trial, failure in result.failed:
            echo(f"failed: {trial.label}: {failure.error}\n    alone: {failure.command}")
    if results.finished < results.total:
        echo(f"\n{results.finished} of {results.total} trials are finished; the others: {place.command}")
    echo(f"\nThe page: {place.path / 'report.html'}")
