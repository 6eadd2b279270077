"""The loader's laws: every batch is a function of seed, epoch and step; ranks share what one process would see."""

from __future__ import annotations

import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.data.pictures import Write, picture

from repfold.data import Batch, CropSettings, DataSettings, Framing, Images, Loader, in_memory, open_source
from repfold.data.collection import decoded_when_used
from repfold.data.crops import centre_boxes, cut
from repfold.errors import RepFoldError


def framing(crop: str = "resized", resize: int = 16) -> Framing:
    return Framing(16, resize, 3, CropSettings(crop))  # type: ignore[arg-type]


def ragged(count: int = 23, resize: int = 16) -> Images:
    pictures = [picture(24 + index % 5, 30 - index % 7, seed=index) for index in range(count)]
    return in_memory(pictures, np.arange(count), framing(resize=resize))


def squares(count: int = 23, crop: str = "padded") -> Images:
    pixels = np.stack([picture(16, 16, seed=index) for index in range(count)])
    return in_memory(pixels, np.arange(count), framing(crop), square=True)


def loader(images: Images, batch: int = 4, **settings: object) -> Loader:
    return Loader(images, batch, **{"train": True, "seed": 5, **settings})  # type: ignore[arg-type]


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.x_NCHW, b.x_NCHW) and torch.equal(a.labels, b.labels) for a, b in zip(left, right, strict=True)
    )


KINDS = pytest.mark.parametrize("make", [ragged, squares])


@KINDS
def test_an_epoch_is_a_function_of_seed_and_epoch(make: type[Images]) -> None:
    first = list(loader(make()).epoch(2))
    assert same(first, list(loader(make(), workers=3).epoch(2)))
    assert not same(first, list(loader(make()).epoch(3)))
    assert not same(first, list(loader(make(), seed=6).epoch(2)))
    seen = torch.cat([batch.labels for batch in first])
    assert len(seen) == 20 and len(seen.unique()) == 20  # 23 images, the partial batch dropped, none twice
    assert all(batch.x_NCHW.shape == (4, 3, 16, 16) and batch.x_NCHW.dtype == torch.uint8 for batch in first)
    assert first[0].x_NCHW.is_contiguous(memory_format=torch.channels_last)


@KINDS
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_a_resumed_epoch_sees_the_same_batches(make: type[Images], start: int) -> None:
    assert same(list(loader(make()).epoch(1))[start:], list(loader(make()).epoch(1, start_step=start)))


@KINDS
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_together_see_the_batches_of_one_process(make: type[Images], world: int) -> None:
    alone = list(loader(make()).epoch(1))
    ranks = [list(loader(make(), rank=rank, world=world).epoch(1)) for rank in range(world)]
    together = [
        Batch(torch.cat([part.x_NCHW for part in parts]), torch.cat([part.labels for part in parts]))
        for parts in zip(*ranks, strict=True)
    ]
    assert same(alone, together)
    assert len(ranks[0][0].labels) == 4 // world


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5))
def test_evaluation_counts_every_image_once(count: int, batch: int, world: int) -> None:
    images = in_memory(np.zeros((count, 4, 4, 1), np.uint8), np.arange(count), square=True)
    seen = [
        labels
        for rank in range(world)
        for _, labels in Loader(images, batch, train=False, rank=rank, world=world).epoch(0)
    ]
    assert all(len(labels) for labels in seen)
    assert sorted(torch.cat(seen).tolist()) == list(range(count))
    if world == 1:
        assert torch.cat(seen).tolist() == list(range(count))
        assert len(seen) == Loader(images, batch, train=False).steps_per_epoch


def test_evaluation_cuts_the_central_square() -> None:
    images = ragged(resize=20)
    for batch in loader(images, 8, train=False).epoch(0):
        for x_CHW, label in zip(batch.x_NCHW, batch.labels.tolist(), strict=True):
            box = centre_boxes(np.array([images[label].shape[:2]]), 16, 20)[0]
            assert np.array_equal(x_CHW.permute(1, 2, 0).numpy(), cut(images[label], box, 16))


def test_training_crops_differ_between_images_and_epochs() -> None:
    images = in_memory([picture(40, 40, seed=1)] * 8, np.zeros(8), framing())
    first, second = (next(loader(images, 8).epoch(epoch)).x_NCHW for epoch in (0, 1))
    assert len({x_CHW.numpy().tobytes() for x_CHW in first}) == 8
    assert not torch.equal(first, second)


def test_a_subset_keeps_pictures_and_labels_together() -> None:
    for images in (ragged(), squares()):
        chosen = images.subset([7, 3, 11])
        batch = next(loader(chosen, 3, train=False).epoch(0))
        assert batch.labels.tolist() == [7, 3, 11]
        assert torch.equal(batch.x_NCHW, next(loader(images, 23, train=False).epoch(0)).x_NCHW[[7, 3, 11]])
        drawn = images.sample(6, seed=1)
        assert len(drawn) == 6 and len(set(drawn.labels.tolist())) == 6
        assert drawn.labels.tolist() == images.sample(6, seed=1).labels.tolist()
        assert len(images.sample(99)) == 23


def slow_images(seconds: float, count: int = 12, done: list[int] | None = None) -> Images:
    """Pictures that take so long to read; the rows that have been read are put into ``done``."""

    def read(row: int) -> np.ndarray:
        time.sleep(seconds)
        if done is not None:
            done.append(row)
        return np.full((16, 16, 3), row, dtype=np.uint8)

    sizes = np.full((count, 2), 16)
    return decoded_when_used(read, sizes, np.arange(count), framing("padded"), square=True, cached=False)


def test_waiting_is_measured_and_hidden_by_work() -> None:
    idle = loader(slow_images(0.02), 2, workers=1)
    list(idle.epoch(0))
    assert idle.waited > 0.2  # 12 pictures of 20 ms, one after the other
    done: list[int] = []
    busy = loader(slow_images(0.02, done=done), 2, workers=2)
    for batch, _ in enumerate(busy.epoch(0), 1):
        # The training step, during which the next batch is made, however long other programs delay that.
        until = time.monotonic() + 10
        while len(done) < min(12, 2 * batch + 2) and time.monotonic() < until:
            time.sleep(0.01)
    assert busy.waited < idle.waited / 2


def test_stopping_early_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = loader(slow_images(0.005, count=40), 2, workers=2).epoch(0)
    assert len(list(islice(batches, 2))) == 2
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_a_picture_that_breaks_while_training_is_named(write_folder: Write) -> None:
    root = write_folder({"a": 4, "b": 4}, size=(40, 40))
    source = open_source(DataSettings(root, image_size=16), cache_bytes=0)
    path = root / "train/b/002.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RepFoldError, match=r"train/b/002\.png"):
        list(source.loader("train", 4, train=True).epoch(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": 24}, "23 training images, fewer than one batch of 24.*at most 23"),
        ({"batch": 0}, "at least 1"),
        ({"batch": 5, "world": 2}, "cannot be shared equally among 2 processes.*such as 6"),
        ({"rank": 2, "world": 2}, "Rank 2"),
    ],
)
def test_settings_that_cannot_work_are_explained(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        loader(squares(), **settings)  # type: ignore[arg-type]


def test_squares_are_not_cropped_at_random() -> None:
    loader(squares(crop="resized"), train=False)
    with pytest.raises(RepFoldError, match="nothing left to crop at random"):
        loader(squares(crop="resized"))


def test_a_step_outside_the_epoch_is_refused() -> None:
    with pytest.raises(RepFoldError, match="start_step 6"):
        next(loader(squares()).epoch(0, start_step=6))
