"""What was trained, how well, what the fold cost and gained, and which files there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from repfold import run_files
from repfold.counted import counted
from repfold.report import wording
from repfold.report.arms import Arm, Spread, spread
from repfold.report.chart_svg import swatch
from repfold.report.digest import speed_up
from repfold.report.markup import Markup, join, tag
from repfold.report.numbers import number
from repfold.report.records import Record, Run
from repfold.report.results import Report
from repfold.report.sections.proof import entries
from repfold.report.tables import Column, Table, columns, to_html

SCORES = {"val_top1": "top-1", "val_top5": "top-5", "val_precision": "precision", "val_recall": "recall"}
_TRAINED = {
    "epochs": "epochs {}",
    "image_size": "{} px",
    "batch": "batch {}",
    "optimizer": "{}",
    "lr": "lr {}",
    "schedule": "{}",
    "warmup": "warm-up {}",
}
_MOST_OPEN = 30  # rows that stand open
_ABSENT = (None, "", 0, "0ep")  # what a recipe leaves to be found out, or does without


def summary(report: Report) -> Markup:
    """Return tiles and files for one run; tables of arms and of runs for several."""
    if len(report.runs) == 1:
        run = report.runs[0]
        return join([_tiles(run), _files(run)])
    several = any(arm.n > 1 for arm in report.arms)
    return join([_arms(report.arms) if several else None, _runs(report)])


def trained(recipe: Mapping[str, object]) -> str:
    """Return in words how a recipe trains, as far as it specifies: 25 epochs · 128 px · batch 64 · ..."""
    parts = [
        pattern.format(wording.plain(recipe[key]))
        for key, pattern in _TRAINED.items()
        if recipe.get(key) not in _ABSENT
    ]
    return " · ".join(parts)


def _tiles(run: Run) -> Markup:
    best, last = run.best, run.last
    tiles = [
        _tile("best top-1", wording.percent(number(best.get("val_top1"))), "%", f"epoch {best['epoch']}"),
        _tile("last top-1", wording.percent(number(last.get("val_top1"))), "%", f"epoch {last['epoch']}"),
    ]
    if run.has("val_top5"):
        tiles.append(_tile("top-5", wording.percent(number(best.get("val_top5"))), "%", f"epoch {best['epoch']}"))
    if run.certificate:
        folded, left = len(entries(run.certificate, "regions")), len(entries(run.certificate, "left"))
        error = wording.scientific(number(run.certificate.get("error")))
        words = f"{counted(folded, 'region')} folded" + (f", {left} left" if left else "")
        tiles.append(_tile("fold error", error, "", words))
    if run.timings and (fastest := run.timings.fastest()):
        times = wording.significant(run.timings.speed_up(fastest), 3)
        tiles.append(_tile("speed-up", times, "×", f"{fastest.form}, batch {fastest.batch}"))
    if run.has("seconds"):
        speed = [value for value in run.column("images_per_second") if value is not None]
        words = f"{wording.count(speed[-1])} images/s" if speed else counted(len(run.epochs), "epoch")
        tiles.append(_tile("training time", wording.seconds(duration(run)), "", words))
    return tag("div", *tiles, class_="tiles")


def _tile(name: str, value: str, unit: str, below: str) -> Markup:
    figure = tag("dd", value, tag("small", f" {unit}") if unit else None)
    return tag("dl", tag("dt", name), figure, tag("dd", below, class_="below"), class_="tile")


def duration(run: Run) -> float:
    """Return the seconds that all recorded epochs took."""
    return sum(value for value in run.column("seconds") if value is not None)


def _files(run: Run) -> Markup | None:
    if not run.files:
        return None
    meanings = {file.name: file.meaning for file in run_files.FILES}
    sizes = dict(run.files)
    names = [*(name for name in meanings if name in sizes), *(name for name in sizes if name not in meanings)]
    rows = tuple((tag("code", name), meanings.get(name, ""), wording.size(sizes[name])) for name in names)
    table = to_html(Table(columns("file", "what it is", "#size"), rows))
    where = tag("p", "In ", tag("code", str(run.directory)), class_="quiet")
    return tag("details", tag("summary", counted(len(rows), "file")), where, table, class_="bulky")


def _arms(arms: Sequence[Arm]) -> Markup:
    keys = [key for key in SCORES if any(run.has(key) for arm in arms for run in arm.runs)]
    heads = tuple(Column(f"{SCORES[key]}, {which}", number=True) for which in ("best", "last") for key in keys)
    rows = []
    for arm in arms:
        best, last = [run.best for run in arm.runs], [run.last for run in arm.runs]
        cells = [deviation(spread(records, key)) for records in (best, last) for key in keys]
        label = _named(arm.label, arm.style) if len(arms) > 1 else arm.label
        rows.append((label, str(arm.n), *cells))
    caption = "Arms: runs that differ in nothing but the seed, mean ± s.d. over n runs, in percent"
    explained = (
        "Best is the epoch of the highest validation top-1 of each run, chosen on the same images and therefore a "
        "little flattering; last is the last epoch."
    )
    table = Table((Column("arm"), Column("n", number=True), *heads), tuple(rows), caption)
    return join([to_html(table), tag("p", explained, class_="quiet")])


def _named(label: str, style: int) -> Markup:
    """Return a name with the line that it has in the curves."""
    return tag("span", swatch(style), " ", label, class_="named")


def deviation(value: Spread | None) -> str:
    """Write mean ± standard deviation in percent; the mean alone where there is but one run."""
    if value is None:
        return wording.ABSENT
    mean = wording.percent(value.mean)
    return mean if value.deviation is None else f"{mean} ± {wording.percent(value.deviation)}"


def _runs(report: Report) -> Markup:
    keys = [key for key in SCORES if any(run.has(key) for run in report.runs)]
    folded, timed = any(run.certificate for run in report.runs), any(run.timings for run in report.runs)
    heads = [Column("run"), Column("epochs", True), Column("best top-1", True), Column("at epoch", True)]
    heads += [Column(f"last {SCORES[key]}", True) for key in keys]
    heads += [Column("fold error", True)] * folded + [Column("speed-up", True)] * timed + [Column("time", True)]
    rows = []
    for arm in report.arms:
        for run in arm.runs:
            label = _named(run.name, arm.style) if len(report.arms) > 1 else run.name
            rows.append((label, *_run_cells(run, keys, folded, timed)))
    table = to_html(Table(tuple(heads), tuple(rows), "Runs, accuracies in percent"))
    return table if len(rows) <= _MOST_OPEN else tag("details", tag("summary", f"All {len(rows)} runs"), table)


def _run_cells(run: Run, keys: Sequence[str], folded: bool, timed: bool) -> list[str]:
    best: Record = run.best
    cells = [str(len(run.epochs)), wording.percent(number(best.get("val_top1"))), str(best["epoch"])]
    cells += [wording.percent(number(run.last.get(key))) for key in keys]
    if folded:
        cells.append(wording.scientific(number((run.certificate or {}).get("error"))))
    if timed:
        times = speed_up(run)
        cells.append(wording.ABSENT if times is None else f"{wording.significant(times, 3)} ×")
    return [*cells, wording.seconds(duration(run)) if run.has("seconds") else wording.ABSENT]
