"""Opening sources: what is decided for the user, what is refused, and that a cache is only a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from tests.data.pictures import Write, picture

from repfold import allowance
from repfold.data import CropSettings, DataSettings, open_source
from repfold.data.crops import resample
from repfold.data.digits import read_digits
from repfold.data.source import Source
from repfold.errors import RepFoldError


def test_digits_are_those_of_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    ours = read_digits()
    assert np.array_equal(ours.train.pixels_NHWC[..., 0], np.rint(theirs.images * (255 / 16)).astype(np.uint8))
    assert np.array_equal(ours.train.labels_N, theirs.target) and ours.train.labels_N.dtype == theirs.target.dtype


def test_digits_are_the_real_ones_split_four_to_one() -> None:
    source = open_source("digits")
    assert source.classes == tuple("0123456789")
    assert (source.image_size, source.resize, source.channels, source.crop.kind) == (8, 8, 1, "padded")
    assert len(source.train) + len(source.val) == 1797
    assert abs(len(source.val) - 1797 / 5) <= 5
    seen = {source.train[index].tobytes() for index in range(len(source.train))}
    real = {np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images}
    assert seen < real
    assert np.bincount(source.val.labels.numpy()).min() >= 34


def test_digits_grow_when_asked() -> None:
    source = open_source(DataSettings("digits", image_size=32, channels=3, per_class=(4, 2)))
    assert len(source.train) == 40 and len(source.val) == 20
    assert source.train[0].shape == (32, 32, 3)
    assert np.bincount(source.val.labels.numpy()).tolist() == [2] * 10


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_folder_is_framed_by_what_its_pictures_are(write_folder: Write, suffix: str) -> None:
    small = open_source(write_folder({"a": 3, "b": 3}, size=(32, 32), suffix=suffix, name="small"))
    assert (small.image_size, small.resize, small.crop.kind, small.channels) == (32, 32, "padded", 3)
    large = open_source(write_folder({"a": 3, "b": 3}, size=(300, 280), suffix=suffix, name="large"))
    assert (large.image_size, large.resize, large.crop.kind) == (224, 256, "resized")
    middle = write_folder({"a": 2, "b": 2}, size=(140, 150), name="mid")
    assert open_source(DataSettings(middle, image_size=128)).resize == 140


def test_gray_folders_have_one_channel_unless_asked(write_image: Write, tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in ("a", "b"):
            write_image(tmp_path / "g" / part / label / "0.png", mode="L")
    assert open_source(DataSettings(tmp_path / "g", image_size=16)).channels == 1
    assert open_source(DataSettings(tmp_path / "g", image_size=16, channels=3)).val[0].shape == (16, 16, 3)
    write_image(tmp_path / "g/train/a/1.png", mode="RGB")
    assert open_source(DataSettings(tmp_path / "g", image_size=16)).channels == 3


def batches(source: Source, train: bool) -> list[np.ndarray]:
    loader = source.loader("train" if train else "val", 4, train=train, workers=2)
    return [batch.x_NCHW.numpy().copy() for batch in loader.epoch(1)]


@pytest.mark.parametrize("kind", ["resized", "padded"])
@pytest.mark.parametrize("size", [None, (40, 40), (90, 120)])
def test_a_cache_changes_no_pixel(write_folder: Write, kind: str, size: tuple[int, int] | None) -> None:
    root = write_folder({"a": 5, "b": 4}, size=size, suffix="jpg")
    crop = CropSettings(kind, scale=(0.2, 1.0))  # type: ignore[arg-type]
    settings = DataSettings(root, image_size=16, crop=crop)
    cached, lazy = (open_source(settings, cache_bytes=budget) for budget in (10**9, 0))
    assert cached.train.cache is not None and lazy.train.cache is None and lazy.val.cache is None
    for train in (True, False):
        for kept, decoded in zip(batches(cached, train), batches(lazy, train), strict=True):
            assert np.array_equal(kept, decoded)


def test_large_pictures_are_reduced_once_but_not_below_what_a_crop_needs(write_folder: Write) -> None:
    root = write_folder({"a": 2, "b": 2}, size=(200, 300), suffix="jpg")
    source = open_source(DataSettings(root, image_size=16, crop=CropSettings(scale=(0.25, 1.0))))
    assert source.train[0].shape == (32, 48, 3)
    expected = resample(picture(200, 300, seed=0), 32, 48).astype(int)
    assert np.abs(source.train[0] - expected).mean() < 4  # JPEG, and its decoding at a smaller size
    assert open_source(DataSettings(root, image_size=128)).train[0].shape == (200, 300, 3)


def break_files(root: Path) -> None:
    (root / "train/a/000.png").write_bytes(b"")
    (root / "train/b/notes.txt").write_text("not a picture")
    whole = (root / "val/a/001.png").read_bytes()
    (root / "val/a/001.png").write_bytes(whole[: len(whole) // 2])


def test_broken_files_are_named_and_counted_in_one_error(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 3})
    break_files(root)
    for budget in (None, 0):
        with pytest.raises(RepFoldError) as caught:
            open_source(DataSettings(root, image_size=16), cache_bytes=budget)
        message = str(caught.value)
        assert "3 file(s)" in message and "--skip-broken" in message
        for name in ("train/a/000.png: empty", "train/b/notes.txt: not an image", "val/a/001.png: "):
            assert name in message


def test_skip_broken_goes_on_without_them_and_says_which(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 3})
    break_files(root)
    source = open_source(DataSettings(root, image_size=16, skip_broken=True))
    assert len(source.train) == 5 and len(source.val) == 5
    assert source.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert [Path(name).name for name in source.skipped] == ["000.png", "notes.txt", "001.png"]
    for number in (1, 2):
        (root / f"train/a/00{number}.png").write_bytes(b"")
    with pytest.raises(RepFoldError, match=r"Without the 5 broken files no train image is left of 'a'"):
        open_source(DataSettings(root, image_size=16, skip_broken=True))


def test_damage_that_only_decoding_shows_is_found_before_training(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 3}, size=(64, 64))
    path = root / "train/b/001.png"
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = bytes(400)  # the end mark stays
    path.write_bytes(whole)
    with pytest.raises(RepFoldError, match=r"1 file\(s\).*\n.*train/b/001\.png"):
        open_source(DataSettings(root, image_size=16))
    skipping = open_source(DataSettings(root, image_size=16, skip_broken=True))
    assert len(skipping.train) == 5 and len(skipping.skipped) == 1
    lazy = open_source(DataSettings(root, image_size=16), cache_bytes=0)
    with pytest.raises(RepFoldError, match=r"train/b/001\.png"):
        batches(lazy, train=True)


def test_one_part_can_be_opened_alone(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 3})
    (root / "train/a/000.png").write_bytes(b"")
    source = open_source(DataSettings(root, image_size=16, resize=20, channels=1), parts=("val",))
    assert len(source.train) == 0 and len(source.val) == 6
    assert source.val[0].shape == (16, 16, 1)
    assert source.val.square and (source.image_size, source.resize) == (16, 20)


def test_the_cache_gets_a_share_of_the_free_memory(write_folder: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder({"a": 2, "b": 2}, size=(16, 16))
    needed = 4 * 16 * 16 * 3  # of each part
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(allowance, "free_memory", lambda: 2 * needed * 10 // 4)
    source = open_source(root)
    assert source.val.cache is not None and source.train.cache is not None
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    source = open_source(root)
    assert source.val.cache is not None and source.train.cache is None


def test_progress_runs_to_its_total(write_folder: Write) -> None:
    root = write_folder({"a": 3, "b": 3})
    for budget in (None, 0):
        seen: list[tuple[int, int]] = []
        record = seen.append
        settings = DataSettings(root, image_size=16)
        open_source(settings, cache_bytes=budget, on_progress=lambda done, total, to=record: to((done, total)))
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1] == (24, 24)


def test_the_subset_is_drawn_before_anything_is_decoded(write_folder: Write) -> None:
    root = write_folder({"a": 6, "b": 6})
    whole, drawn = (open_source(DataSettings(root, image_size=16, per_class=count, seed=3)) for count in (None, (2, 4)))
    assert len(drawn.train) == 4 and len(drawn.val) == 8
    every = [whole.train[index].tobytes() for index in range(len(whole.train))]
    assert all(drawn.train[index].tobytes() in every for index in range(len(drawn.train)))
    with pytest.raises(RepFoldError, match="9 train images a class"):
        open_source(DataSettings(root, per_class=(9, 1)))


def test_a_folder_that_may_not_be_read_is_explained(write_folder: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder({"a": 2})

    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RepFoldError, match=r"cannot be read: .*Permission denied"):
        open_source(root)


def test_what_is_no_source_is_explained(tmp_path: Path, write_folder: Write) -> None:
    with pytest.raises(RepFoldError, match="Did you mean 'digits'"):
        open_source("digit")
    with pytest.raises(RepFoldError, match="no such file or folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(RepFoldError, match="is not a data set"):
        open_source(tmp_path / "table.csv")
    root = write_folder({"a": 2, "b": 2})
    with pytest.raises(RepFoldError, match="resize 16"):
        open_source(DataSettings(root, image_size=32, resize=16))
    with pytest.raises(RepFoldError, match="channels is 4"):
        open_source(DataSettings(root, channels=4))
