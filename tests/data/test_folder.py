"""Folders of class folders: layouts, what is passed over, and every mistake by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.pictures import Write

from repfold.data.folder import read_folder
from repfold.errors import RepFoldError


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_train_and_val_folders_are_taken_as_they_are(write_folder: Write, val: str) -> None:
    root = write_folder({"cat": 3, "dog": 2}, parts=("train", val))
    listing = read_folder(root)
    assert listing.classes == ("cat", "dog")
    assert listing.name == "pets"
    assert listing.train.labels_N.tolist() == [0, 0, 0, 1, 1]
    assert listing.val.labels_N.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("parts", [("",), ("train",)])
def test_class_folders_alone_are_split(write_folder: Write, parts: tuple[str, ...]) -> None:
    listing = read_folder(write_folder({"cat": 8, "dog": 4}, parts=parts))
    assert listing.val is None
    train, val = listing.parts(val_fraction=0.25, per_class=None, seed=0)
    assert train.labels_N.tolist() == [0] * 6 + [1] * 3
    assert val.labels_N.tolist() == [0] * 2 + [1]


def test_litter_is_passed_over_and_folders_are_searched(write_folder: Write, write_image: Write) -> None:
    root = write_folder({"cat": 2})
    write_image(root / "train/cat/more/deep.png")
    (root / "train/cat/.DS_Store").write_bytes(b"x")
    (root / "train/cat/Thumbs.db").write_bytes(b"x")
    (root / "train/.cache").mkdir()
    (root / "readme.txt").write_text("pets")
    assert len(read_folder(root).train.labels_N) == 3


def test_mistakes_are_named(write_folder: Write, write_image: Write, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(RepFoldError, match=r"void is an empty folder.*train/<class>"):
        read_folder(tmp_path / "void")
    write_image(tmp_path / "flat/a.png")
    with pytest.raises(RepFoldError, match="holds files but no class folders"):
        read_folder(tmp_path / "flat")
    root = write_folder({"cat": 2, "dog": 2})
    (root / "train/emu").mkdir()
    with pytest.raises(RepFoldError, match=r"1 class folder\(s\) .*train hold no images: 'emu'"):
        read_folder(root)
    (root / "train/emu").rmdir()
    write_image(root / "val/fox/a.png")
    (root / "val/dog").rename(root / "val/wolf")
    with pytest.raises(RepFoldError, match=r"only in .*train: 'dog'; only in .*val: 'fox', 'wolf'"):
        read_folder(root)
    with pytest.raises(RepFoldError, match="has val/ but no train/"):
        read_folder(write_folder({"cat": 2}, parts=("val",), name="half"))
