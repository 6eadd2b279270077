"""The process around a command: its streams, its signals, its limits, and the exit code of its outcome.

Exit codes: 0, what was asked is done; 2, it could not be, for a reason that is given; 128 + n, signal n ended it; 141,
it was to print, and who read it left before the end (as when SIGPIPE ends a program).
"""

from __future__ import annotations

import errno
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO, cast

from repfold import atomic
from repfold.cli import openmp
from repfold.cli.outlet import Outlet, open_closed_descriptors
from repfold.cli.terminal import echo
from repfold.signals import Interrupted, interrupting

# Fewer open files than these are not enough to import PyTorch and to read images; and how many are asked for.
_FEWEST_FILES, _USUAL_FILES = 24, 1024
_BROKEN_PIPE = 141  # 128 + SIGPIPE


class Command(Protocol):
    """The whole command line: the arguments of this process if none are given."""

    def __call__(self, arguments: list[str] | None = None) -> None:
        """Run the command line, by default with the arguments of the process."""


def guarded(command: Command) -> Command:
    """``command`` (the whole command line) with a process around it that it can rely on.

    Signals that ask to stop raise Interrupted in it, reported here; what it prints never raises; and it ends with
    the exit code that is true: a lost output does not make a failure of finished files, nor a success of lost answers.
    """

    @functools.wraps(command)
    def run(arguments: list[str] | None = None) -> None:
        words = sys.argv[1:] if arguments is None else arguments
        open_closed_descriptors()
        openmp.yield_to_others()
        atomic.completed.clear()
        with _outlets() as (output, errors):
            code = _code(command, arguments)
            undelivered = output.finish() if output else None
            if undelivered and code == 0 and (_written() == [] or "--json" in words):
                code = _BROKEN_PIPE if undelivered.errno == errno.EPIPE else 2
                if code != _BROKEN_PIPE:
                    _echo_error(f"The output could not be written: {undelivered.strerror}. Send it elsewhere.")
            if errors:
                errors.finish()
        if code:
            sys.exit(code)

    return run


def _code(command: Command, arguments: list[str] | None) -> int:
    try:
        with interrupting():
            _allow_files()
            command(arguments)
    except Interrupted as stopped:
        _echo_error(f"{stopped} {stopped.status or _what_is_done()}")
        return stopped.exit_code
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            _echo_error(leaving.code)
            return 2
        return leaving.code or 0
    return 0


def _what_is_done() -> str:
    written = _written()
    if not written:
        return "Nothing was written."
    return f"Written, and complete: {', '.join(written)}. Nothing else was written."


def _written() -> list[str]:
    """The files that this command has completed, temporary ones excepted."""
    return [str(path) for path in atomic.completed if path.exists()]


def _echo_error(message: str) -> None:
    echo(f"repfold: {message}", error=True)


@contextmanager
def _outlets() -> Iterator[tuple[Outlet | None, Outlet | None]]:
    """Within the block sys.stdout and sys.stderr are outlets, where there are such streams."""
    before = sys.stdout, sys.stderr
    output, errors = (Outlet(stream) if stream is not None else None for stream in before)
    if output:
        sys.stdout = cast(TextIO, output)
    if errors:
        sys.stderr = cast(TextIO, errors)
    try:
        yield output, errors
    finally:
        sys.stdout, sys.stderr = before


def _allow_files() -> None:
    """Raise this process's limit of open files to the usual one where it may; exit where it is too low to work."""
    if sys.platform == "win32":
        return
    import resource

    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _USUAL_FILES if most == resource.RLIM_INFINITY else most
    if limit != resource.RLIM_INFINITY and limit < min(_USUAL_FILES, most):
        limit = min(_USUAL_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if limit != resource.RLIM_INFINITY and limit < _FEWEST_FILES:
        _echo_error(
            f"Only {limit} files may be open at once here, too few to work with. Allow more: ulimit -n {_USUAL_FILES}"
        )
        sys.exit(2)
