"""``repfold study``: comparisons over several seeds, run, shown at any time, and what can be concluded from them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from repfold.cli.terminal import echo, print_json
from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.limits import LARGEST_COUNT
from repfold.signals import Interrupted

if TYPE_CHECKING:
    from repfold.study.run_study import Resources
    from repfold.study.study import Study
    from repfold.study.study_directory import Shown, StudyDirectory


@dataclass(frozen=True)
class Given:
    """The study that was asked for: its file, and where and at which size it is run."""

    file: Path
    out: Path | None
    scale: str
    data: str
    trials: Path | None


def study(
    action: Annotated[Literal["run", "report", "list", "show"], tyro.conf.Positional],
    file: Annotated[Path | None, tyro.conf.Positional] = None,
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    scale: Literal["", "small", "medium", "full"] = "",
    data: str = "",
    trials: Path | None = None,
    jobs: int = 0,
    threads: int = 0,
    hours: float | None = None,
    on: Literal["here", "ray"] = "here",
    dry_run: bool = False,
    keep: bool = False,
    trust: bool = False,
    export: tuple[Path, ...] = (),
    json: bool = False,
) -> None:
    """Compare trainings over several seeds: run what is missing, show what there is, at any time, and conclude.

    Interrupted, killed, or extended by an arm or a seed: run trains only what is missing.

    Args:
        action: run: train what is missing, seed by seed, then report; report: table and page of what there is; list:
            the studies that come with RepFold, or the scales of one; show: the file of one, to begin one's own with.
        file: A TOML file, or the name of a study that comes with RepFold; for report also the directory of one.
        out: Where table.json and report.html go; runs/NAME if not given.
        scale: The size at which to run it, where its file has several; small if not given.
        data: The data of every arm, in place of the recipes' own.
        trials: Where trials are kept, for all studies; beside --out if not given.
        jobs: Trials at a time; 0: one a core, or one a GPU.
        threads: Of each trial; 0: the cores, divided among the jobs.
        hours: Begin no round of a seed that does not fit into so many hours.
        on: Processes here, or a Ray cluster (RAY_ADDRESS, or the one of this machine).
        dry_run: Only say what would be trained, and how long that takes, measured on a few steps of each arm.
        keep: Keep the trained networks too.
        trust: Run the code that the study names: only for what you made yourself, or trust.
        export: Also write the table: files that end in .csv, .tex or .md (a page of results with its provenance).
        json: Print one JSON object; progress goes to stderr.
    """
    from repfold.cli.study_list import list_studies, tell

    if action == "list":
        list_studies(json=json) if file is None else tell(str(file), json=json)
    elif file is None:
        raise RepFoldError(f"study {action} takes a file, or the name of a study: see repfold study list.")
    elif action == "show":
        _show(file)
    else:
        _check(jobs, threads, hours, export)
        given = Given(file, out, scale, data, trials)
        if action == "report":
            _report(given, export, json)
        else:
            _run(given, (jobs, threads, hours, keep, trust, on), export, dry_run, json)


def _check(jobs: int, threads: int, hours: float | None, export: Sequence[Path]) -> None:
    if min(jobs, threads) < 0 or max(jobs, threads) > LARGEST_COUNT:
        raise RepFoldError("--jobs and --threads are whole numbers from 0.")
    if hours is not None and not 0 <= hours < 1e6:
        raise RepFoldError("--hours is a number from 0.")
    if wrong := [path for path in export if path.suffix not in (".csv", ".tex", ".md")]:
        raise RepFoldError(
            f"--export {wrong[0]}: a table is written as .csv, .tex or .md: choose one of these endings."
        )


def _run(given: Given, how: tuple[Any, ...], export: Sequence[Path], dry_run: bool, json: bool) -> None:
    from repfold.cli.console import Console
    from repfold.study.run_study import Resources, refuse_code, run_study

    place, text, resources = *_open(given), Resources(*how)
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
    _print(place, shown, export, json)
    if shown.results.failed:
        sys.exit(2)


def _report(given: Given, export: Sequence[Path], json: bool) -> None:
    from repfold.study.study_directory import made

    said = made(given.file) if given.file.is_dir() else None
    if said is not None:
        given = Given(
            given.file / "study.toml",
            given.out or given.file,
            given.scale or said.scale,
            given.data or said.data,
            given.trials or Path(said.trials),
        )
    place, text = _open(given)
    place = replace(place, command=said.command) if said else place
    place.begin(text)
    _print(place, place.write(measure=False), export, json)


def _show(file: Path) -> None:
    from repfold.study import study_file

    echo(study_file.read_text(str(file)), end="")


def _open(given: Given) -> tuple[StudyDirectory, str]:
    from repfold.study import study_file
    from repfold.study.store import Store
    from repfold.study.study_directory import StudyDirectory

    text = study_file.read_text(str(given.file))
    found = study_file.parse(text, scale=given.scale, data=given.data, name=str(given.file))
    out = given.out or Path("runs") / found.name
    store = Store(given.trials or out.absolute().parent / "trials")
    return StudyDirectory(out, found, store, _command(given, out), given.data), text


def _command(given: Given, out: Path) -> str:
    """What trains what is missing."""
    options = {"--scale": given.scale, "--data": given.data, "--trials": str(given.trials or "")}
    words = [word for flag, value in options.items() if value for word in (flag, value)]
    return shlex.join(["repfold", "study", "run", str(given.file), "--out", str(out), *words])


def _show_plan(place: StudyDirectory, resources: Resources, console: Any, json: bool) -> None:
    from dataclasses import asdict

    from repfold.cli.remaining import in_words
    from repfold.report.tables import Table, columns, to_text
    from repfold.study.plan import make_plan

    with console.status("measuring a few steps of each arm ..."):
        plan = make_plan(place.study, place.store, *resources.divided(place.study.processes), trust=resources.trust)
    if json:
        print_json(asdict(plan) | {"missing": plan.missing, "seconds": plan.seconds})
        return
    _say_study(place.study)
    rows = tuple(
        (arm.name, str(arm.trials), str(arm.finished), arm.problem or in_words(arm.seconds or 0.0)) for arm in plan.arms
    )
    echo(to_text(Table(columns("arm", "#trials", "#finished", "a trial takes"), rows)))
    total = (
        f"{counted(plan.missing, 'trial')} to train, {plan.jobs} at a time on {counted(plan.threads, 'thread')} each"
    )
    echo(f"\n{total}: about {in_words(plan.seconds)}, measured on a few steps of each kind of arm.")


def _say_study(found: Study) -> None:
    scale = f", scale {found.scale}" + (f" ({found.about})" if found.about else "") if found.scale else ""
    echo(
        f"{found.title}\n{found.name}{scale}: {counted(len(found.arms), 'arm')}, "
        f"{counted(len(found.seeds), 'seed')}, {found.metric}\n"
    )


def _print(place: StudyDirectory, shown: Shown, export: Sequence[Path], json: bool) -> None:
    from repfold.report.tables import Column, Table, to_text
    from repfold.study import table
    from repfold.study.export import write_table
    from repfold.study.sentences import outdated, sentences

    results = shown.results
    rows = table.rows(results, shown.latency)
    for path in export:
        write_table(path, shown, place.command)
    if json:
        counts = {"finished": results.finished, "total": results.total, "failed": results.failed}
        print_json({"directory": str(place.path), "study": place.study.name, **counts, "arms": rows})
        return
    used = [column for column in table.columns(results, shown.latency) if not column.detail]
    cells = tuple(tuple(column.text(row) for column in used) for row in rows)
    echo(to_text(Table(tuple(Column(column.title, column.number) for column in used), cells)))
    echo()
    for text in sentences(results):
        echo(text)
    if results.outdated:
        echo(outdated(results))
    for result in results.arms:
        for trial, failure in result.failed:
            echo(f"failed: {trial.label}: {failure.error}\n    alone: {failure.command}")
    if results.finished < results.total:
        echo(f"\n{results.finished} of {results.total} trials are finished; the others: {place.command}")
    for path in export:
        echo(f"\nThe table: {path}")
    echo(f"\nThe page: {place.path / 'report.html'}")
