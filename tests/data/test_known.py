"""What is remembered of image files saves time alone: no pixel, no refusal and no split depends on it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.data.pictures import Write

from repfold.data import CropSettings, DataSettings, known, open_source, parts
from repfold.data.source import Source
from repfold.errors import RepFoldError

AGES_AGO = 10**18  # ns since 1970: 2001


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known, "FEWEST", 1)
    return tmp_path / "cache" / "repfold" / "surveys"


@pytest.fixture
def root(write_folder: Write) -> Path:
    """A folder whose files have not changed for long."""
    folder = write_folder({"a": 6, "b": 5}, suffix="jpg")
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    for path in folder.rglob("*.*"):
        os.utime(path, ns=(AGES_AGO, AGES_AGO))


def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose header is read, or that are decoded, from now on."""
    seen: list[str] = []
    for name in ("read_header", "read_image"):
        real = getattr(parts, name)
        monkeypatch.setattr(
            parts,
            name,
            lambda path, *rest, real=real, **more: seen.append("/".join(path.parts[-3:])) or real(path, *rest, **more),
        )
    return seen


def batches(source: Source, train: bool, epoch: int = 1) -> list[np.ndarray]:
    loader = source.loader("train" if train else "val", 4, train=train)
    return [batch.x_NCHW.numpy().copy() for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("kind", ["resized", "padded"])
def test_a_known_folder_is_not_looked_at_before_the_first_step_and_gives_the_same_pixels(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    crop = CropSettings(kind, scale=(0.2, 1.0))  # type: ignore[arg-type]
    first = open_source(DataSettings(root, image_size=16, crop=crop))
    assert first.train.decoded and first.val.decoded
    seen = looked_at(monkeypatch)
    again = open_source(DataSettings(root, image_size=16, crop=crop))
    assert seen == [] and again.train.cache is not None and not again.train.decoded
    assert again.fingerprint.content == first.fingerprint.content and again.classes == first.classes
    for train in (True, False):
        for epoch in (1, 2):
            for old, new in zip(batches(first, train, epoch), batches(again, train, epoch), strict=True):
                assert np.array_equal(old, new)
    assert again.val.decoded and len(seen) == len(set(seen)) <= 22  # each once


def test_a_file_that_changed_is_looked_at_again_and_the_digest_tells(
    root: Path, write_image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_source(DataSettings(root, image_size=16))
    write_image(root / "train" / "a" / "003.jpg", 40, 44, seed=9)
    seen = looked_at(monkeypatch)
    after = open_source(DataSettings(root, image_size=16))
    assert set(seen) == {"train/a/003.jpg"}
    assert after.fingerprint.content != before.fingerprint.content
    assert after.fingerprint.times != before.fingerprint.times
    os.utime(root / "train" / "a" / "003.jpg")  # the same picture, touched
    assert open_source(DataSettings(root, image_size=16)).fingerprint.content == after.fingerprint.content


def test_what_changed_a_moment_ago_is_not_remembered(write_folder: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder({"a": 3, "b": 3})
    open_source(DataSettings(root, image_size=16))
    seen = looked_at(monkeypatch)
    open_source(DataSettings(root, image_size=16))
    assert len(seen) == 24  # every header, every picture


def test_broken_files_are_found_every_time(root: Path) -> None:
    path = root / "train" / "b" / "001.jpg"
    path.write_bytes(path.read_bytes()[:100])
    (root / "val" / "a" / "002.jpg").write_bytes(b"")
    settle(root)
    for _ in range(2):
        with pytest.raises(RepFoldError, match=r"2 file\(s\)"):
            open_source(DataSettings(root, image_size=16))
        assert len(open_source(DataSettings(root, image_size=16, skip_broken=True)).skipped) == 2


def test_headers_alone_do_not_count_as_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_source(DataSettings(root, image_size=16), cache_bytes=0)
    seen = looked_at(monkeypatch)
    assert open_source(DataSettings(root, image_size=16)).train.decoded
    assert len(seen) == 22


@pytest.mark.parametrize("damage", ["torn", "flipped", "empty", "other", "directory"])
def test_a_damaged_cache_is_as_none(root: Path, cache: Path, damage: str) -> None:
    sound = open_source(DataSettings(root, image_size=16))
    for file in cache.iterdir():
        content = bytearray(file.read_bytes())
        if damage == "torn":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            content[len(content) // 2] ^= 0x40
            file.write_bytes(content)
        elif damage == "empty":
            file.write_bytes(b"")
        elif damage == "other":
            np.savez(file, format=np.array("another"), names=np.zeros(3, np.uint8), facts=np.zeros((1, 6), np.int64))
        else:
            file.unlink()
            file.mkdir()
    assert open_source(DataSettings(root, image_size=16)).fingerprint.content == sound.fingerprint.content


def test_without_a_place_for_a_cache_everything_works(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    first, again = open_source(DataSettings(root, image_size=16)), open_source(DataSettings(root, image_size=16))
    assert again.train.decoded and again.fingerprint.content == first.fingerprint.content
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert known.cache_file(root) is None
    assert open_source(DataSettings(root, image_size=16)).fingerprint.content == first.fingerprint.content


def test_the_caches_of_all_folders_together_are_bounded(
    write_folder: Write, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "MOST_BYTES", 6000)
    for number in range(12):
        folder = write_folder({"a": 3, "b": 3}, name=f"pets{number}")
        settle(folder)
        open_source(DataSettings(folder, image_size=16))
    assert 2 <= len(list(cache.iterdir())) <= 9
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 6000
    assert known.cache_file(folder / "train").is_file()  # type: ignore[union-attr]


def test_the_digest_tells_labels_from_pixels_and_parts() -> None:
    whole = open_source("digits")
    assert whole.fingerprint.content == open_source("digits").fingerprint.content
    assert whole.fingerprint.content != open_source(DataSettings("digits", seed=1)).fingerprint.content
    assert whole.fingerprint.content != open_source("digits", parts=("val",)).fingerprint.content
