"""What earlier commands learned of image files: kept in the user's cache, believed while size and time are the same.

One file a folder, in $XDG_CACHE_HOME/repfold/surveys (~/.cache by default). It may be deleted at any time; one that is
damaged, of another Pillow, or cannot be written is as if there were none.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL

from repfold import atomic
from repfold.data.images import in_parallel

# The columns of what is known of a file. A height of 0: nothing is known. DECODED: it was decoded once, whole.
SIZE, MTIME, HEIGHT, WIDTH, GRAY, DECODED = range(6)
COLUMNS = 6

# Another Pillow may read other files, and so may another rule of ours: its number is to be raised then.
FORMAT = f"repfold-survey-1 Pillow-{PIL.__version__}"
FEWEST = 256  # files: fewer are looked at in no time
MOST_BYTES = 256 * 2**20  # of all folders together; ImageNet takes 110 MB
# A file that changed a moment ago may change again within the clock's grain, unseen.
_SETTLED_NS = 2 * 10**9


class KnownImages:
    """What is known of the files ``names`` under ``root``; read when first asked, written by ``write``."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self.root, self.names = root, names
        self.rows: dict[str, int] | None = None
        self.facts_MF = np.zeros((0, COLUMNS), dtype=np.int64)
        self.news = False

    def look_up(self, names: Sequence[str]) -> np.ndarray:
        """Return int64 [N, 6]: of each file its size and time now, and what is known of it if they are as they were."""
        facts_NF = np.zeros((len(names), COLUMNS), dtype=np.int64)
        facts_NF[:, : MTIME + 1] = self._stamps(names)
        rows_of = self._rows()
        rows = np.flatnonzero([name in rows_of for name in names])
        known_RF = self.facts_MF[[rows_of[names[int(row)]] for row in rows]]
        same = (known_RF[:, : MTIME + 1] == facts_NF[rows, : MTIME + 1]).all(axis=1)
        facts_NF[rows[same]] = known_RF[same]
        return facts_NF

    def learn(self, names: Sequence[str], facts_NF: np.ndarray) -> None:
        """Take over what was found out of files, in the form of ``look_up``.

        Broken ones are not remembered: what was the matter may be outside of them, as permissions are.
        """
        rows_of = self._rows()
        found = np.flatnonzero(facts_NF[:, HEIGHT])
        rows = [rows_of.setdefault(names[int(row)], len(rows_of)) for row in found]
        facts_NF = facts_NF[found]
        grown_MF = np.zeros((len(rows_of), COLUMNS), dtype=np.int64)
        grown_MF[: len(self.facts_MF)] = self.facts_MF
        self.news = self.news or not np.array_equal(grown_MF[rows], facts_NF)
        grown_MF[rows] = facts_NF
        self.facts_MF = grown_MF

    def write(self) -> None:
        """Keep what was learned, if it is anything new; where nothing can be written, nothing is."""
        file = cache_file(self.root)
        if not self.news or file is None or len(self.names) < FEWEST:
            return
        rows_of = self._rows()
        settled = self.facts_MF[:, MTIME] < time.time_ns() - _SETTLED_NS
        kept = [name for name in self.names if name in rows_of and settled[rows_of[name]]]
        blob = np.frombuffer(b"\0".join(map(os.fsencode, kept)), dtype=np.uint8)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic.replacing(file) as temporary, open(temporary, "wb") as opened:
                facts_MF = self.facts_MF[[rows_of[name] for name in kept]]
                np.savez(opened, format=np.array(FORMAT), names=blob, facts=facts_MF)
            _make_room(file)
        except OSError:
            return
        self.news = False

    def _rows(self) -> dict[str, int]:
        if self.rows is None:
            names, self.facts_MF = _read(self.root) if len(self.names) >= FEWEST else ([], self.facts_MF)
            self.rows = {name: row for row, name in enumerate(names)}
        return self.rows

    def _stamps(self, names: Sequence[str]) -> np.ndarray:
        """Return [N, 2] sizes and times in ns; zeros where there is no file any more."""

        def stamp(row: int) -> tuple[int, int]:
            try:
                found = os.stat(f"{self.root}{os.sep}{names[row]}")
            except OSError:
                return 0, 0
            return found.st_size, found.st_mtime_ns

        return np.array(list(in_parallel(stamp, len(names))), dtype=np.int64).reshape(-1, 2)


def cache_file(root: Path) -> Path | None:
    """Where what is known of the files under ``root`` is kept; None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    except (RuntimeError, OSError):  # no home; a folder that is gone
        return None
    return home / "repfold" / "surveys" / f"{name}.npz"


def _read(root: Path) -> tuple[list[str], np.ndarray]:
    nothing: tuple[list[str], np.ndarray] = [], np.zeros((0, COLUMNS), dtype=np.int64)
    file = cache_file(root)
    if file is None or not file.is_file():
        return nothing
    try:
        with np.load(file, allow_pickle=False) as stored:
            if str(stored["format"]) != FORMAT:
                return nothing
            blob, facts_MF = stored["names"].tobytes(), stored["facts"]
    except Exception:  # damage shows in any way, and costs no more than looking again
        return nothing
    names = [os.fsdecode(name) for name in blob.split(b"\0")] if blob else []
    if facts_MF.shape != (len(names), COLUMNS) or facts_MF.dtype != np.int64 or facts_MF.min(initial=0) < 0:
        return nothing
    return names, facts_MF


def _make_room(newest: Path) -> None:
    """Remove the files written longest ago, but never ``newest``, until all together are small enough."""
    files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in newest.parent.glob("*.npz"))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= MOST_BYTES or path == newest:
            return
        path.unlink(missing_ok=True)
        total -= size
