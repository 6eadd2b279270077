"""Which code a trial's result depends on: the files of RepFold of which it executed a function, by what they say.

A trial is watched while it starts, in the first step of each epoch and at each epoch's end; every file is noted of
which a function ran then, and every file from which one of those imports a constant. The digest of a file is that of
its syntax tree, so that comments, docstrings and formatting do not count. A finished trial counts for as long as the
files that it depends on have their digests: code that it never ran (another block, the report, the command line) may
change.

A runner reads the code once, before its first trial, and hands what it read to the trials' processes: they are forks of
one that imported it then, whatever is edited while a study runs for hours.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
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


@dataclass(frozen=True)
class File:
    """What a file of the package says: the digest of its syntax tree, and what it imports, (module, name) each."""

    digest: str
    imports: tuple[tuple[str, str], ...] = ()


class Code:
    """The package as it is: each file is read when it is asked for, and then known; or as ``files`` say that it was."""

    def __init__(self, files: Mapping[str, File] | None = None) -> None:
        self.files = dict(files or {})

    def file(self, name: str) -> File:
        """Return what a file (below the package) says; the digest of one that is gone is ""."""
        if name not in self.files:
            self.files[name] = _read(ROOT / name)
        return self.files[name]

    def is_current(self, digests: Mapping[str, str], version: str) -> bool:
        """Whether code of these ``digests``, under PyTorch ``version``, would give the result again."""
        return version == torch_version() and all(self.file(name).digest == digest for name, digest in digests.items())

    @cached_property
    def whole(self) -> str:
        """A digest of all code that any training may run, for trials that have not told yet what they depend on."""
        files = (path.relative_to(ROOT) for path in sorted(ROOT.rglob("*.py")))
        ours = [str(name) for name in files if name.parts[0] not in _AFTERWARDS]
        text = "".join(f"{name} {self.file(name).digest}\n" for name in ours)
        return hashlib.sha256(f"{text}{torch_version()}".encode()).hexdigest()[:8]


@cache
def here() -> Code:
    """Return the code of this process."""
    return Code()


class Watch:
    """Notes the modules whose functions run while it is on.

    ``code``: what the modules say that are loaded by now; those that come later are read when they have come.
    """

    def __init__(self, code: Code) -> None:
        self.modules: set[str] = set()
        self.code, self.loaded = code, set(sys.modules)

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

    def add_loaded(self, packages: tuple[str, ...]) -> None:
        """Note all modules of ``packages`` that are loaded by now."""
        self.modules |= {name for name in list(sys.modules) if name.startswith(packages)}

    def digests(self) -> dict[str, str]:
        """Return file -> digest of what ran, and of where what ran has its constants from."""
        loaders = {name for name in list(sys.modules) if name.startswith(_IN_THREADS) and not name.startswith(_CHOSEN)}
        ran = {name for name in self.modules | loaders if _in_package(name)}
        every = {_relative(name): self._file(name) for name in ran}
        for module, imported in (pair for file in list(every.values()) for pair in file.imports):
            if _in_package(module) and not _has_code(getattr(sys.modules[module], imported, None)):
                every[_relative(module)] = self._file(module)
        return {name: every[name].digest for name in sorted(every)}

    def _file(self, module: str) -> File:
        name = _relative(module)
        return self.code.file(name) if module in self.loaded else _read(ROOT / name)


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


def _read(path: Path) -> File:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError):
        return File("")
    imports: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            imports += [(node.module, alias.name) for alias in node.names if node.module.startswith("repfold.")]
    return File(hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12], tuple(imports))


def _in_package(name: str) -> bool:
    if not name.startswith("repfold."):
        return False
    room = name.split(".")[1]
    return room not in _AFTERWARDS and getattr(sys.modules.get(name), "__file__", None) is not None


def _relative(name: str) -> str:
    return str(Path(str(sys.modules[name].__file__)).relative_to(ROOT))


def _has_code(value: Any) -> bool:
    return isinstance(value, Callable | type(sys) | type(None))  # type: ignore[arg-type]
