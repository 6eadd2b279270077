"""Which code a trial's result depends on: the files of RepFold of which it executed a function, by what they say.

A trial is watched while it starts, in the first step of each epoch and at each epoch's end; every file is noted of
which a function ran then, and every file from which one of those imports a constant. The digest of a file is that of
its syntax tree, so that comments, docstrings and formatting do not count. A finished trial counts for as long as the
files that it depends on have their digests: code that it never ran (another block, the report, the command line) may
change.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import repfold

ROOT = Path(repfold.__file__).parent
# Rooms that no training enters: they begin where it ends.
_AFTERWARDS = ("cli", "report", "deploy", "engine", "study", "__main__.py")

# What loads images does so in threads, which are not watched: all of it counts, but the augmentations.
_IN_THREADS, _CHOSEN = "repfold.data.", "repfold.data.augment."


class Watch:
    """Notes the modules whose functions run while it is on."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def on(self) -> None:
        """Begin, or go on, to watch this thread."""
        sys.setprofile(self._note)

    def off(self) -> None:
        """Watch no longer, which costs time."""
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            # By the globals, not the file: the functions that dataclasses make have no file.
            self.modules.add(frame.f_globals.get("__name__", ""))

    def digests(self) -> dict[str, str]:
        """Return file -> digest of what ran, and of where what ran has its constants from."""
        loaded = {name for name in list(sys.modules) if name.startswith(_IN_THREADS) and not name.startswith(_CHOSEN)}
        ran = {name for name in self.modules | loaded if _in_package(name)}
        return current(_relative(name) for name in sorted(ran | _sources_of_constants(ran)))


def current(files: Iterable[str]) -> dict[str, str]:
    """Return the digests that ``files`` (below the package) have now; "" for one that is gone."""
    return {file: _digest_of(file) for file in files}


def is_current(digests: Mapping[str, str], version: str) -> bool:
    """Whether code of these ``digests``, under PyTorch ``version``, would give the result again."""
    return version == torch_version() and current(digests) == dict(digests)


@cache
def whole() -> str:
    """Return a digest of all code that any training may run, for trials that have not told yet what they depend on."""
    files = (path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in _AFTERWARDS)
    text = "".join(f"{path.relative_to(ROOT)} {_digest(path)}\n" for path in files)
    return hashlib.sha256(f"{text}{torch_version()}".encode()).hexdigest()[:8]


def torch_version() -> str:
    """Return PyTorch's version as far as results depend on it: 2.13."""
    return ".".join(str(torch.__version__).split(".")[:2])


def digest_of_factory(model: str) -> str:
    """Return the digest of the file in which a user's own network ``package.module:factory`` is built; "" for ours."""
    if ":" not in model:
        return ""
    try:
        module = importlib.import_module(model.partition(":")[0])
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()[:12]
    except (ImportError, OSError, ValueError):
        return ""  # the training will say what is the matter


@cache
def _digest_of(file: str) -> str:
    return _digest(ROOT / file)


@cache
def _digest(path: Path) -> str:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def _in_package(name: str) -> bool:
    if not name.startswith("repfold."):
        return False
    room = name.split(".")[1]
    return room not in _AFTERWARDS and getattr(sys.modules.get(name), "__file__", None) is not None


def _relative(name: str) -> str:
    return str(Path(str(sys.modules[name].__file__)).relative_to(ROOT))


def _sources_of_constants(names: Iterable[str]) -> set[str]:
    """Return the modules from which these import what is neither a function nor a class nor a module."""
    found = set()
    for name in names:
        for module, imported in _imports(Path(str(sys.modules[name].__file__))):
            if _in_package(module) and not _has_code(getattr(sys.modules[module], imported, None)):
                found.add(module)
    return found


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from ((node.module, alias.name) for alias in node.names)


def _has_code(value: Any) -> bool:
    return isinstance(value, Callable | type(sys) | type(None))  # type: ignore[arg-type]
