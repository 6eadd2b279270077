"""CIFAR-10 and -100 in each published form, written here byte for byte as their page describes."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from repfold.data import cifar
from repfold.data.source import open_source
from repfold.errors import RepFoldError

PER_BATCH = 10
CLASSES_10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CLASSES_100 = [f"thing {label:03}" for label in range(100)]

Contents = dict[str, bytes]


def images(seed: int, count: int = PER_BATCH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def rows(seed: int, count: int = PER_BATCH) -> np.ndarray:
    """The published order: 1024 red values, then green, then blue, row by row."""
    return np.stack([images(seed, count)[..., channel].reshape(count, -1) for channel in range(3)], 1).reshape(
        count, -1
    )


def cifar_10_python() -> Contents:
    def batch(seed: int) -> bytes:
        return pickle.dumps({b"batch_label": b"x", b"labels": list(range(10)), b"data": rows(seed)}, 2)

    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    meta = pickle.dumps({b"label_names": [name.encode() for name in CLASSES_10]}, 2)
    return {**{name: batch(seed) for seed, name in enumerate(names)}, "batches.meta": meta}


def cifar_10_binary() -> Contents:
    def batch(seed: int) -> bytes:
        return b"".join(bytes([label]) + row.tobytes() for label, row in enumerate(rows(seed)))

    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    meta = "\n".join(CLASSES_10).encode() + b"\n\n"
    return {**{name: batch(seed) for seed, name in enumerate(names)}, "batches.meta.txt": meta}


def cifar_100_python() -> Contents:
    def part(seed: int) -> bytes:
        labels = {"fine_labels": list(range(100)), "coarse_labels": [0] * 100}
        return pickle.dumps({**labels, "data": rows(seed, 100)}, 2)

    meta = pickle.dumps({"fine_label_names": CLASSES_100, "coarse_label_names": ["all"]}, 2)
    return {"train": part(0), "test": part(5), "meta": meta}


def cifar_100_binary() -> Contents:
    def part(seed: int) -> bytes:
        return b"".join(bytes([label // 5, label]) + row.tobytes() for label, row in enumerate(rows(seed, 100)))

    return {"train.bin": part(0), "test.bin": part(5), "fine_label_names.txt": "\n".join(CLASSES_100).encode()}


FORMS: dict[str, Callable[[], Contents]] = {
    "cifar-10-batches-py": cifar_10_python,
    "cifar-10-batches-bin": cifar_10_binary,
    "cifar-100-python": cifar_100_python,
    "cifar-100-binary": cifar_100_binary,
}


def write_files(folder: Path, contents: Contents) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, folder: str, contents: Contents) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("place", ["folder", "around", "archive", "around the archive"])
@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_is_found_and_read(tmp_path: Path, form: str, place: str) -> None:
    contents = FORMS[form]()
    if "archive" in place:
        path = write_archive(tmp_path / "cifar-10x.tar.gz", form, contents)
    else:
        path = write_files(tmp_path / form, contents)
    source = open_source(tmp_path if "around" in place else path)
    hundred = "100" in form
    assert source.name == ("CIFAR-100" if hundred else "CIFAR-10")
    assert source.classes == tuple(CLASSES_100 if hundred else CLASSES_10)
    assert (source.image_size, source.resize, source.channels, source.crop.kind) == (32, 32, 3, "padded")
    assert len(source.train) == (100 if hundred else 50)
    count = 100 if hundred else PER_BATCH
    assert np.array_equal(source.train[3], images(0, count)[3])
    assert np.array_equal(source.val[4], images(5, count)[4])
    assert source.val.labels.tolist() == list(range(count))


def test_names_are_numbers_without_the_meta_file(tmp_path: Path) -> None:
    contents = cifar_10_binary()
    del contents["batches.meta.txt"]
    assert cifar.read_cifar(write_files(tmp_path / "c", contents)).classes == tuple("0123456789")


def damaged(contents: Contents, name: str, content: bytes | None) -> Contents:
    return {key: value for key, value in {**contents, name: content}.items() if value is not None}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (damaged(cifar_10_python(), "data_batch_4", None), "incomplete CIFAR-10: data_batch_4 missing"),
        (damaged(cifar_10_python(), "data_batch_4", b"torn"), "data_batch_4 cannot be read as a CIFAR pickle"),
        (damaged(cifar_10_python(), "test_batch", pickle.dumps({"data": rows(0)})), "'labels' and 'data' are needed"),
        (
            damaged(cifar_10_python(), "test_batch", pickle.dumps({"data": rows(0), "labels": [99] * 10})),
            r"test_batch holds labels outside 0\.\.9",
        ),
        (
            damaged(cifar_10_python(), "test_batch", pickle.dumps({"data": rows(0), "labels": [1]})),
            "test_batch holds uint8",
        ),
        (damaged(cifar_10_binary(), "data_batch_2.bin", b"\0" * 5000), r"data_batch_2\.bin has 5000 bytes"),
        (damaged(cifar_10_binary(), "batches.meta.txt", b"cat\ndog\n"), "names 2 classes; CIFAR-10 has 10"),
    ],
)
def test_damage_is_named(tmp_path: Path, contents: Contents, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        open_source(write_files(tmp_path / "damaged", contents))


def test_other_and_torn_archives_are_explained(tmp_path: Path) -> None:
    other = write_archive(tmp_path / "pets.tar.gz", "pets", {"a.jpg": b"x"})
    with pytest.raises(RepFoldError, match=r"unpacked first: tar xf pets\.tar\.gz"):
        open_source(other)
    torn = write_archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", cifar_10_python())
    torn.write_bytes(torn.read_bytes()[:60_000])
    with pytest.raises(RepFoldError, match="damaged archive"):
        open_source(torn)
