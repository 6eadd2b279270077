"""How many threads are worth asking for."""

from __future__ import annotations

from repfold import allowance
from repfold.errors import RepFoldError

# So many times the cores are surely not what was meant; threads of their number cannot even start.
_MOST_A_CORE = 16


def check_threads(threads: int) -> None:
    """Raises: RepFoldError for a number of threads that this machine cannot gain from."""
    if threads < 1:
        raise RepFoldError(f"threads is {threads}; there has to be at least one.")
    cores = allowance.cores()
    if threads > _MOST_A_CORE * cores:
        raise RepFoldError(
            f"threads is {threads:,}, and {cores} {'cores' if cores > 1 else 'core'} may be used here: more threads "
            f"than cores only wait for one another. Use --threads {cores}, or leave it out."
        )
