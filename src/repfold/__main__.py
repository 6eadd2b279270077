"""``python -m repfold`` is the command line (and what ``torchrun -m repfold`` starts)."""

from repfold.cli import main

if __name__ == "__main__":
    main()
