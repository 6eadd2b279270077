"""The command with which a stopped run goes on: the one that was used, launcher included, with --resume."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from repfold.train.recipe import Recipe

_LAUNCHERS = ("torchrun", "torch.distributed.run", "torch.distributed.launch")


def to_resume(directory: Path, recipe: Recipe) -> str:
    """Return what to type for going on with the run of ``recipe`` in ``directory``."""
    arguments = sys.argv[1:]
    program = _program()
    if not program or arguments[:1] != ["train"]:  # a demo, or a program of the user's own
        trusting = ["--trust"] if ":" in recipe.model else []  # the network is code, which only the file names
        return shlex.join(["repfold", "train", "--resume", "--out", str(directory), *trusting])
    if not _has(arguments, "--out", "-o"):
        arguments = [*arguments, "--out", str(directory)]
    if not _has(arguments, "--resume"):
        arguments = [*arguments, "--resume"]
    return shlex.join([*_launcher(), *program, *arguments])


def _program() -> list[str]:
    """How this program was called, without its arguments; nothing when it is not ``repfold``."""
    called = Path(sys.argv[0])
    if called.name == "repfold":
        on_path = shutil.which("repfold")
        return ["repfold"] if on_path and Path(on_path).samefile(called) else [str(called)]
    if called.parts[-2:] != ("repfold", "__main__.py"):
        return []
    return ["-m", "repfold"] if "TORCHELASTIC_RUN_ID" in os.environ else [sys.orig_argv[0], "-m", "repfold"]


def _launcher() -> list[str]:
    """torchrun with its options: as its own process was called, else as far as this one can see."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return []
    words = _command_of(os.getppid())
    index = next((i for i, word in enumerate(words) if Path(word).name in _LAUNCHERS), None)
    if index is not None and "repfold" in words[index:]:
        # What follows is the program and its arguments; "-m" before a module is torchrun's own option.
        options = words[index + 1 : words.index("repfold", index)]
        options = options[:-1] if options[-1:] in (["-m"], ["--module"]) else options
        module = words[index - 1 : index] == ["-m"]
        return [words[0], "-m", words[index], *options] if module else ["torchrun", *options]
    nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
    several = [] if nodes == "1" else ["--nnodes", nodes]
    return ["torchrun", *several, "--nproc-per-node", os.environ.get("LOCAL_WORLD_SIZE", "1")]


def _command_of(pid: int) -> Sequence[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def _has(arguments: Sequence[str], *names: str) -> bool:
    return any(word in names or word.startswith(tuple(f"{name}=" for name in names)) for word in arguments)
