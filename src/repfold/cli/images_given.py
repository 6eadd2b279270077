"""The images that a command line means: files, folders with all below them, patterns, and lists on stdin."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from repfold.errors import RepFoldError

STDIN = "-"


def images_given(words: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths of images: of a folder the image files in it and below, in order of their names.

    A pattern such as ``holiday/*.jpg``, which a shell has left alone, means the files that match it; ``-`` a list on
    stdin, one path a line. A path that does not exist is yielded as it is, for whoever opens it to say so.

    Raises: RepFoldError for a folder without images, and a pattern that nothing matches.
    """
    for word in words:
        if str(word) == STDIN:
            yield from (Path(line) for line in (line.rstrip("\r\n") for line in sys.stdin) if line)
        elif word.is_dir():
            yield from _below(word)
        elif not word.exists() and glob.has_magic(str(word)):
            matching = sorted(glob.glob(str(word), recursive=True))
            if not matching:
                raise RepFoldError(f"No file matches '{word}'. Check the pattern.")
            yield from images_given(map(Path, matching))
        else:
            yield word


def _below(folder: Path) -> list[Path]:
    from repfold.data.folder import looks_like_image

    found = [
        Path(directory) / name
        for directory, folders, names in os.walk(folder)
        if folders.sort() is None  # walked in this order
        for name in sorted(names)
        if looks_like_image(name)
    ]
    if not found:
        raise RepFoldError(f"{folder} holds no images, nor do the folders in it.")
    return found
