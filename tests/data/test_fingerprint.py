"""A fingerprint changes with what the data are, and not with where they are."""

from __future__ import annotations

import shutil

import numpy as np

from repfold.data.fingerprint import fingerprint
from repfold.data.folder import read_folder
from repfold.data.parts import ArrayPart


def of_folder(folder):
    parts = read_folder(folder).parts(val_fraction=0.5, per_class=None, seed=0)
    return fingerprint([part.survey(lambda steps: None)[0] for part in parts])


def write(folder, **pictures: list[int]) -> None:
    """One gray picture a name, of one row; its file takes as many bytes as it has pixels, and the header."""
    for number, (name, pixels) in enumerate(pictures.items()):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        file = folder / "ab"[number % 2] / f"{name}.pgm"
        file.write_bytes(b"P5 %d 1 255\n" % len(pixels) + bytes(pixels))


def test_files(tmp_path):
    write(tmp_path / "one", k=[1, 2], l=[3, 4], m=[5, 6], n=[7, 8])
    first = of_folder(tmp_path / "one")
    assert (first.images, first.bytes) == (4, 4 * 13)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    assert of_folder(tmp_path / "moved") == first
    write(tmp_path / "moved", k=[1, 2, 3])
    assert of_folder(tmp_path / "moved").content != first.content
    write(tmp_path / "one", k=[9, 9])
    touched = of_folder(tmp_path / "one")
    assert touched.content == first.content and touched.times != first.times
    (tmp_path / "one" / "a" / "k.pgm").rename(tmp_path / "one" / "a" / "z.pgm")
    assert of_folder(tmp_path / "one").content != first.content


def test_pixels():
    pixels, labels = np.zeros((3, 2, 2, 1), dtype=np.uint8), np.arange(3)
    first = fingerprint([ArrayPart(pixels, labels)])
    assert fingerprint([ArrayPart(pixels.copy(), labels.astype(np.int32))]) == first
    assert fingerprint([ArrayPart(pixels, labels[::-1])]).content != first.content
    pixels[2, 1, 1, 0] = 1
    assert fingerprint([ArrayPart(pixels, labels)]).content != first.content
