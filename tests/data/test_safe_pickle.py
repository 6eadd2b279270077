"""The pickle reader admits arrays and nothing that runs."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from repfold.data.safe_pickle import load_arrays
from repfold.errors import RepFoldError


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_arrays_and_builtins_are_read(protocol: int) -> None:
    data = np.arange(12, dtype=np.uint8).reshape(3, 4)
    content = pickle.dumps({b"data": data, b"labels": [1, 2, 3], "text": b"\xff\x00", b"none": None}, protocol)
    found = load_arrays(content, "batch")
    assert np.array_equal(np.asarray(found["data"]), data)
    assert found["labels"] == [1, 2, 3]
    assert found["text"] == b"\xff\x00"


def test_a_python_2_pickle_is_read() -> None:
    # As the publisher's Python 2 wrote it: protocol 2, byte strings as keys, the array's bytes as a string.
    content = (
        b"\x80\x02}(U\x06labels]K\x07aU\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
        b"\x87R(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
        b"\xffK\x00tb\x89U\x02\x05\xfetbu."
    )
    found = load_arrays(content, "data_batch_1")
    assert found["labels"] == [7]
    assert np.asarray(found["data"]).tolist() == [[5, 254]]


class Attack:
    """Unpickled by an ordinary reader, this would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    content = pickle.dumps({"data": Attack(target)})
    with pytest.raises(RepFoldError, match=r"data_batch_1 cannot be read as a CIFAR pickle: it asks for \w+\.mkdir"):
        load_arrays(content, "data_batch_1")
    assert not target.exists()
    pickle.loads(content)  # the attack is a real one
    assert target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", pickle.dumps([1, 2]), pickle.dumps({"a": np.arange(9)})[:-9], pickle.dumps(OrderedDict(a=1))],
)
def test_what_is_no_batch_is_refused(content: bytes) -> None:
    with pytest.raises(RepFoldError, match="batch_7"):
        load_arrays(content, "batch_7")
