"""``repfold study list``: the studies that come with RepFold, a line each, and the scales of one of them."""

from __future__ import annotations

import textwrap

from repfold.cli.terminal import echo, print_json
from repfold.study import study_file
from repfold.train.recipe_file import first_comment

_WIDTH = 96


def list_studies(*, json: bool = False) -> None:
    """Print name -> what a study is about: its first sentence, as much of it as a line holds."""
    texts = study_file.shipped()
    if json:
        print_json({name: _told(text) for name, text in texts.items()})
        return
    room = max(map(len, texts))
    for name, text in texts.items():
        about = first_comment(text).partition(". ")[0].rstrip(".")
        echo(f"{name:<{room}}  {textwrap.shorten(about, _WIDTH - room - 2, placeholder=' …')}")
    echo("\nRun one with: repfold study run NAME --out DIR; its sizes: repfold study list NAME;")
    echo("its file, to begin one's own with: repfold study show NAME")


def tell(name: str, *, json: bool = False) -> None:
    """Print what one study is about, and what it is at each of its scales."""
    text = study_file.read_text(name)
    if json:
        print_json({name: _told(text)})
        return
    echo(first_comment(text))
    for scale, about in study_file.scales_of(text).items():
        head = f"  --scale {scale:<7} "
        echo(textwrap.fill(about, _WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))


def _told(text: str) -> dict[str, object]:
    return {"about": first_comment(text), "scales": study_file.scales_of(text)}
