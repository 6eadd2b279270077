"""``repfold verify``: whether a run directory is whole, its fold exact, and its training repeatable to the bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from repfold.cli.model_flags import CodeFlags
from repfold.cli.terminal import print_json

if TYPE_CHECKING:
    from repfold.train.verify import Check

_STYLES = {"passed": "green", "failed": "bold red", "skipped": "yellow"}


def verify(
    run: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    steps: int = 50,
    flags: Annotated[CodeFlags, tyro.conf.arg(name="")] = CodeFlags(),  # noqa: B008
    json: bool = False,
) -> None:
    """Check a run: the hashes of its files, its certificate by folding again, and its steps by training them again.

    Nothing is written into the run's directory. The exit code is 1 when something failed.

    Args:
        run: The run directory.
        steps: How many steps to do again, at most; 0: none.
        json: Print one JSON object.
    """
    from repfold.cli.console import Console
    from repfold.train.verify import verify as verify_run

    with Console(stderr=True).status("") as status:
        checks = verify_run(
            run,
            steps=steps,
            factory=flags.factory,
            trust=flags.trust,
            on_stage=lambda stage: status.update(f"{stage} ..."),
        )
    passed = all(check.result != "failed" for check in checks)
    if json:
        rows = [{"name": check.name, "result": check.result, "detail": check.detail} for check in checks]
        print_json({"run": str(run), "passed": passed, "checks": rows})
    else:
        _print_table(run, checks, passed)
    if not passed:
        sys.exit(1)


def _print_table(run: Path, checks: list[Check], passed: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from repfold.cli.console import Console

    table = Table("checked", "result", "what was found", box=None)
    for check in checks:
        table.add_row(check.name, Text(check.result, _STYLES[check.result]), Text(check.detail))
    console = Console()
    console.print(table, highlight=False)
    console.print(
        f"\n{run}: {'nothing is wrong' if passed else 'not as it was left'}.",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
