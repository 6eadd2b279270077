"""The table of a study as files: CSV, LaTeX, and a Markdown page of results with its provenance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repfold import atomic
from repfold.errors import RepFoldError
from repfold.study import table
from repfold.study.metrics import METRICS
from repfold.study.provenance import provenance
from repfold.study.sentences import sentences
from repfold.study.study_directory import Shown


def write_table(path: Path, shown: Shown, command: str) -> None:
    """Write the table in the format of the ending of ``path``. Raises: RepFoldError for another ending."""
    if path.suffix not in FORMATS:
        raise RepFoldError(f"{path}: a table is written as {', '.join(FORMATS)}: choose one of these endings.")
    atomic.write_text(path, FORMATS[path.suffix](shown, command))


def to_page(shown: Shown, command: str) -> str:
    """Return a page of results in Markdown, all of it from the trials' records."""
    results = shown.results
    study, metric = results.study, METRICS[results.study.metric]
    seeds = sorted({run.seed for arm in results.arms for run in arm.runs})
    about = study.about.rstrip(".")
    scale = f" Scale {study.scale}: {about}." if study.scale else ""
    epoch = "last epoch" if study.epoch == "last" else "best epoch"
    unit = f" in {metric.unit}" if metric.unit else ""
    pieces = [
        f"# {study.title}",
        f"Study `{study.name}`: {results.finished} of {results.total} trials, seeds {_spans(seeds)}.{scale} "
        f"{metric.title.capitalize()}{unit}, {epoch}, float32, on validation images that no seed redraws; mean ± "
        "standard deviation. Differences are to the reference, seed by seed; the intervals are Student's t.",
        table.to_markdown(results, shown.latency).rstrip(),
        "\n".join(f"- {text}" for text in sentences(results)),
    ]
    if study.published:
        pieces += ["## Published figures", _published(shown)]
    made = [*provenance(results), f"command: `{command}`", f"this page: `{_again(command)}`"]
    pieces += ["## How this was made", "\n".join(f"- {line}" for line in made)]
    return "\n\n".join(pieces) + "\n"


def _published(shown: Shown) -> str:
    lines = ["| arm | quantity | published | source | what differs |", "|---|---|---:|---|---|"]
    for one in shown.results.study.published:
        title = METRICS[one.metric].title if one.metric in METRICS else one.metric
        lines.append(f"| {one.arm} | {title} | {table.spread(one.value, one.std)} | {one.source} | {one.differs} |")
    return "\n".join(lines)


def _again(command: str) -> str:
    return command.replace("study run", "study report", 1) + " --export PAGE.md"


def _spans(seeds: list[int]) -> str:
    whole = seeds and seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds)) or "none"


FORMATS: dict[str, Callable[[Shown, str], str]] = {
    ".csv": lambda shown, command: table.to_csv(shown.results, shown.latency),
    ".tex": lambda shown, command: table.to_latex(shown.results, shown.latency),
    ".md": to_page,
}
