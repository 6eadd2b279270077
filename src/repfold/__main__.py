"""``python -m repfold`` is the command line (and what ``torchrun -m repfold`` starts); so is ``repfold``."""

from __future__ import annotations

import sys

from repfold.signals import Interrupted, interrupting


def main() -> None:
    """Run the command line, answering signals from the first moment, while it is still being imported."""
    try:
        with interrupting():
            from repfold.cli import main as command_line

            command_line()
    except Interrupted as stopped:
        print(f"repfold: {stopped} Nothing was begun.", file=sys.stderr)
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main()
