"""Pictures of the mistakes of one run: those of the largest loss, the most confident ones, and what spoke for them."""

from __future__ import annotations

from collections.abc import Sequence

from repfold import run_files
from repfold.report import wording
from repfold.report.heatmap import shortened
from repfold.report.markup import Markup, join, tag
from repfold.report.mistakes import Mistake, Mistakes
from repfold.report.results import Report

_SIDE = 112
_WRONG_LABELS = (
    "Where the network is sure and wrong, it is often the label that is wrong, or the picture shows both classes: look "
    "at these before anything else is changed."
)


def pictures(report: Report) -> Markup | None:
    """Return the pictures of a single run's mistakes; of several runs each has them on its own page."""
    found = [run.mistakes for run in report.runs if run.mistakes is not None]
    if not found:
        return None
    if len(report.runs) > 1:
        return tag("p", f"Each run's own page ({run_files.REPORT} in its directory) has its pictures.", class_="quiet")
    return _of_one(found[0])


def _of_one(mistakes: Mistakes) -> Markup:
    looked_at = f"{wording.count(mistakes.images)} validation images"
    drawn = f", drawn from {wording.count(mistakes.of)}" if mistakes.images < mistakes.of else ""
    if not mistakes.wrong:
        return tag("p", f"None of {looked_at}{drawn} was taken for another class.")
    what = f"{wording.count(mistakes.wrong)} of {looked_at}{drawn} were taken for another class."
    shown = [*mistakes.worst, *mistakes.most_confident]
    mapped = any(mistake.map for mistake in shown)
    explained = (
        "At the right of each picture: what spoke for the class that was predicted (LayerCAM), the stronger, the more "
        "orange."
        if mapped
        else None
    )
    return join(
        [
            tag("p", what, " ", explained, class_="quiet"),
            _gallery("The worst mistakes: their own class seemed least likely", _WRONG_LABELS, mistakes.worst),
            _gallery("The most confident mistakes", _elsewhere(mistakes), mistakes.most_confident),
        ]
    )


def _elsewhere(mistakes: Mistakes) -> str | None:
    of = mistakes.repeated + len(mistakes.most_confident)
    return f"{mistakes.repeated} of these {of} are among the worst above." if mistakes.repeated else None


def _gallery(title: str, words: str | None, mistakes: Sequence[Mistake]) -> Markup | None:
    if not mistakes:
        return None
    figures = tag("div", *(_figure(mistake) for mistake in mistakes), class_="pictures")
    said = tag("p", words, class_="quiet") if words else None
    return join([tag("p", title, class_="caption"), said, figures])


def _figure(mistake: Mistake) -> Markup:
    alt = f"an image of {mistake.true} that was taken for {mistake.predicted}"
    seen = tag("img", src=mistake.picture, alt=alt, width=_SIDE, height=_SIDE)
    over = None
    if mistake.map is not None:
        gray = tag("img", src=mistake.picture, alt="", width=_SIDE, height=_SIDE, class_="gray")
        heat = tag("img", src=mistake.map, alt="what spoke for it", width=_SIDE, height=_SIDE, class_="heat")
        over = tag("span", gray, heat, class_="over")
    said = tag("span", tag("b", shortened(mistake.predicted, 28)), f" {wording.share(mistake.probability)}")
    truth = tag("span", f"labelled {shortened(mistake.true, 28)} {wording.share(mistake.true_probability)}")
    file = tag("span", shortened(mistake.name, 44), class_="quiet", title=mistake.name)
    return tag("figure", tag("div", seen, over, class_="pair"), tag("figcaption", said, truth, file))
