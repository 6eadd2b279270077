"""A fingerprint changes with what the data are, and not with where they are."""

from __future__ import annotations

import shutil

import numpy as np

from repfold.data.fingerprint import fingerprint
from repfold.data.folder import read_folder
from repfold.data.listing import Split
from repfold.data.parts import ArrayPart


def of_folder(folder):
    listing = read_folder(folder, Split(0.5, 0))
    return fingerprint([listing.train, listing.val])


def write(folder, **files: bytes) -> None:
    for number, (name, content) in enumerate(files.items()):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[number % 2] / f"{name}.png").write_bytes(content)


def test_files(tmp_path):
    write(tmp_path / "one", k=b"12", l=b"34", m=b"56", n=b"78")
    first = of_folder(tmp_path / "one")
    assert (first.images, first.bytes) == (4, 8)
    shutil.copytree(tmp_path / "one", tmp_path / "moved")
    assert of_folder(tmp_path / "moved") == first
    write(tmp_path / "moved", k=b"123")
    assert of_folder(tmp_path / "moved").content != first.content
    write(tmp_path / "one", k=b"99")
    touched = of_folder(tmp_path / "one")
    assert touched.content == first.content and touched.times != first.times
    (tmp_path / "one" / "a" / "k.png").rename(tmp_path / "one" / "a" / "z.png")
    assert of_folder(tmp_path / "one").content != first.content


def test_pixels():
    pixels, labels = np.zeros((3, 2, 2, 1), dtype=np.uint8), np.arange(3)
    first = fingerprint([ArrayPart(pixels, labels)])
    assert fingerprint([ArrayPart(pixels.copy(), labels.astype(np.int32))]) == first
    assert fingerprint([ArrayPart(pixels, labels[::-1])]).content != first.content
    pixels[2, 1, 1, 0] = 1
    assert fingerprint([ArrayPart(pixels, labels)]).content != first.content
