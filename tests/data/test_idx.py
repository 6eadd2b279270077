"""IDX sets as MNIST, Fashion-MNIST and EMNIST are published, written here byte for byte."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from repfold.data.idx import read_idx_file
from repfold.data.source import open_source
from repfold.errors import RepFoldError

LABELS = np.array([3, 1, 3, 7, 1, 7], dtype=np.uint8)


def pictures(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (len(LABELS), 28, 28), dtype=np.uint8)


def idx_bytes(values: np.ndarray) -> bytes:
    return (
        struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


def write_set(folder: Path, *, prefix: str = "", val: str = "t10k", gz: bool = False, dot: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", val)):
        for kind, values in (("images", pictures(seed)), ("labels", LABELS)):
            name = f"{prefix}{part}-{kind}{'.' if dot else '-'}idx{values.ndim}-ubyte"
            content = idx_bytes(values)
            (folder / f"{name}{'.gz' if gz else ''}").write_bytes(gzip.compress(content) if gz else content)
    return folder


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("inside", ["", "raw"])
def test_mnist_is_found_and_read(tmp_path: Path, gz: bool, dot: bool, inside: str) -> None:
    write_set(tmp_path / "MNIST" / inside, gz=gz, dot=dot)
    source = open_source(tmp_path / "MNIST")
    assert source.classes == ("1", "3", "7")
    assert (source.image_size, source.channels) == (28, 1)
    assert source.train.labels.tolist() == [1, 0, 1, 2, 0, 2]
    assert np.array_equal(source.train[2][..., 0], pictures(0)[2])
    assert np.array_equal(source.val[2][..., 0], pictures(1)[2])


def test_emnist_is_chosen_by_file_set_upright_and_named_by_its_mapping(tmp_path: Path) -> None:
    for name in ("letters", "digits"):
        write_set(tmp_path, prefix=f"emnist-{name}-", val="test", gz=True)
    (tmp_path / "emnist-letters-mapping.txt").write_text("1 65 97\n3 67 99\n7 71 103\n")
    with pytest.raises(RepFoldError, match=r"several sets: emnist-digits-, emnist-letters-.*train-images"):
        open_source(tmp_path)
    source = open_source(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz")
    assert source.name == "emnist-letters"
    assert source.classes == ("A", "C", "G")
    assert np.array_equal(source.val[1][..., 0], pictures(1)[1].T)


def test_fashion_has_its_class_names(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "FashionMNIST")
    labels = np.arange(10, dtype=np.uint8)
    pixels = np.zeros((10, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    assert open_source(folder).classes[9] == "Ankle boot"


def test_mistakes_are_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "m")
    images = folder / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    images.write_bytes(whole[:-100])
    with pytest.raises(RepFoldError, match=r"train-images.* holds 4620 bytes where \(6, 28, 28\) values need 4720"):
        open_source(folder)
    images.write_bytes(b"PK" + whole[2:])
    with pytest.raises(RepFoldError, match="does not begin as an IDX file of 3 dimension"):
        open_source(folder)
    images.write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(RepFoldError, match="cannot be read"):
        open_source(folder)
    images.write_bytes(whole)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS[:4]))
    with pytest.raises(RepFoldError, match="holds 6 images, its label file 4 labels"):
        open_source(folder)
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(RepFoldError, match="train-labels-idx1-ubyte"):
        open_source(folder)
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(RepFoldError, match="no test images"):
        open_source(folder)


def test_what_unpacks_to_more_than_its_header_says_is_not_unpacked(tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, 1, 2, 2) + bytes(2**24)))
    with pytest.raises(RepFoldError, match="holds more bytes where"):
        read_idx_file(path, 3)
    path.write_bytes(struct.pack(">4I", 0x803, 2**31, 2**31, 2**31))
    with pytest.raises(RepFoldError, match="more than is read"):
        read_idx_file(path, 3)


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    images = write_set(tmp_path / "MNIST") / "train-images-idx3-ubyte"
    images.unlink()
    os.mkfifo(images)
    with pytest.raises(RepFoldError, match="has no training images"):
        open_source(tmp_path / "MNIST")
