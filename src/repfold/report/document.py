"""An HTML document that holds everything it needs: style, scripts, and a policy that lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import metadata, resources

from repfold.report.chart_svg import stylesheet
from repfold.report.markup import Child, Markup, join, tag


def document(title: str, *content: Child, scripts: Sequence[str] = ("page.js",)) -> Markup:
    """Return the whole document: ``content``, a footer, a place for the tooltip, and ``scripts`` of this room."""
    body = tag(
        "body",
        *content,
        tag("footer", f"RepFold {metadata.version('repfold')}"),
        tag("div", id="tooltip", role="status", hidden=""),
        *(tag("script", Markup(resource(script))) for script in scripts),
    )
    return join([Markup("<!DOCTYPE html>\n"), tag("html", _head(title, scripts), body, lang="en"), "\n"])


def resource(name: str) -> str:
    """Return the text of a file of this room."""
    return resources.files("repfold.report").joinpath(name).read_text(encoding="utf-8")


def _head(title: str, scripts: Sequence[str]) -> Markup:
    digests = [base64.b64encode(hashlib.sha256(resource(script).encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    # Nothing may be loaded from anywhere, and no script may run but the page's own, whatever a class is called.
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} · RepFold"),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(stylesheet() + resource("page.css"))),
    )
