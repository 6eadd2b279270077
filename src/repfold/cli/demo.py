"""``repfold demo``: everything once, on images that every installation has."""

from __future__ import annotations

from pathlib import Path


def demo(*, out: Path = Path("runs/demo"), json: bool = False) -> None:
    """Train a small RepVGG on handwritten digits, fold it, prove the fold, export it, time it and write the report.

    Args:
        out: The run directory; an earlier demo in it is overwritten.
        json: Print one JSON object; progress goes to stderr.
    """
    from repfold.cli.console import Console
    from repfold.cli.train import finish_with_display, print_json, print_result, train_with_display
    from repfold.train import recipe_file, record

    console = Console(stderr=json)
    recipe = recipe_file.find("digits")
    record.clear(out)
    result = train_with_display(recipe, out, console)
    stages = finish_with_display(out, recipe, console)
    print_json(result, stages) if json else print_result(console, result, stages)
