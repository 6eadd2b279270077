"""The sections of a page. A section returns ``None`` when the runs have nothing that it could show."""

from __future__ import annotations

from collections.abc import Callable

from repfold.report.markup import Markup
from repfold.report.results import Report
from repfold.report.sections.advice import advice
from repfold.report.sections.curves import curves
from repfold.report.sections.gradients import gradients
from repfold.report.sections.mistakes import mistakes
from repfold.report.sections.pictures import pictures
from repfold.report.sections.proof import proof
from repfold.report.sections.settings import environment, recipe
from repfold.report.sections.summary import summary
from repfold.report.sections.timing import timing

SECTIONS: dict[str, tuple[str, Callable[[Report], Markup | None]]] = {
    "summary": ("Summary", summary),
    "curves": ("Curves", curves),
    "advice": ("Advice", advice),
    "confusion": ("Mistakes", mistakes),
    "pictures": ("Pictures of mistakes", pictures),
    "gradients": ("Re-parameterized gradients", gradients),
    "certificate": ("Certificate of the fold", proof),
    "timings": ("Timings of the forms", timing),
    "recipe": ("Recipe", recipe),
    "environment": ("Environment", environment),
}
