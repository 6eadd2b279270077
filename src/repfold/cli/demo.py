"""``repfold demo``: everything once, on images that every installation has."""

from __future__ import annotations

from pathlib import Path

from repfold.errors import RepFoldError


def demo(*, out: Path = Path("runs/demo"), overwrite: bool = False, json: bool = False) -> None:
    """Train a small RepVGG on handwritten digits, fold it, prove the fold, export it, time it and write the report.

    Args:
        out: The run directory.
        overwrite: Delete an earlier demo in it; never anything else.
        json: Print one JSON object; progress goes to stderr.
    """
    from repfold.cli.console import Console
    from repfold.cli.train_and_finish import finish_with_display, print_result, train_with_display
    from repfold.train import recipe_file

    console = Console(stderr=json)
    recipe = recipe_file.find("digits")
    _make_room(out, overwrite)
    result = train_with_display(recipe, out, console)
    stages = finish_with_display(out, recipe, console)
    print_result(console, result, stages, json=json)


def _make_room(out: Path, overwrite: bool) -> None:
    """Mark ``out`` as a demo's, and clear an earlier demo from it.

    Raises: RepFoldError when it holds another run, or a demo that nobody asked to overwrite.
    """
    from repfold import run_files
    from repfold.train import record, run_lock

    with run_lock.held(out), record.writing(out):
        found, ours = record.found(out), (out / run_files.DEMO).exists()
        if found and not ours:
            raise RepFoldError(f"{out} holds a run that is no demo ({found[0]}). Choose another directory: --out DIR.")
        if found and not overwrite:
            raise RepFoldError(
                f"{out} holds an earlier demo. Delete it with --overwrite, or choose another: --out DIR."
            )
        record.clear(out)
        (out / run_files.DEMO).write_text("Made by repfold demo, which may therefore overwrite it.\n")
