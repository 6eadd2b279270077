"""Files that are not to be trusted: broken, too old, too large, or asking for data that are not theirs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from tests.graph.onnx_files import agree, by_runtime, numbers, one_node, weights, write_model  # noqa: E402

from repfold.errors import RepFoldError  # noqa: E402
from repfold.graph.interpret import execute  # noqa: E402
from repfold.graph.onnx import file  # noqa: E402
from repfold.graph.onnx.read import read_onnx  # noqa: E402


def _with_outside_weight(path: Path, **entries: Any) -> Path:
    """A convolution whose weight, [4, 4, 1, 1] of float32, is in another file."""
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    write_model(path, [node], {"x": ("n", 4, "h", "w_")}, ["y"], {"w": weights(4, 4, 1, 1)})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_file_are_read(tmp_path):
    weight = weights(4, 4, 1, 1)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(b"\0" * 8 + weight.tobytes())
    path = _with_outside_weight(tmp_path / "m.onnx", location="parts/w.bin", offset=8, length=64)
    imported = read_onnx(path)
    np.testing.assert_array_equal(imported.state["Conv_0.weight"].detach().numpy(), weight)
    x = numbers(2, 4, 3, 3)
    agree(by_runtime(path, x), [y.detach().numpy() for y in execute(imported.graph, (x,), imported.state)])


@pytest.mark.parametrize(
    "location", ["../secret.bin", "{}/secret.bin", "parts/../../secret.bin", "..\\secret.bin", "", "link.bin"]
)
def test_data_elsewhere_are_not(tmp_path, location):
    (tmp_path / "secret.bin").write_bytes(weights(4, 4, 1, 1).tobytes())
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = _with_outside_weight(folder / "m.onnx", location=location.format(tmp_path), length=64)
    with pytest.raises(RepFoldError, match="own folder"):
        read_onnx(path)


@pytest.mark.parametrize(
    "entries, says",
    [
        ({"location": "w.bin", "offset": 8, "length": 64}, "not whole"),
        ({"location": "w.bin", "offset": 0, "length": 60}, "takes 64 bytes"),
        ({"location": "w.bin", "offset": -4, "length": 64}, "takes 64 bytes"),
        ({"location": "w.bin", "offset": "x", "length": 64}, "not described"),
        ({"location": "none.bin", "length": 64}, "not a file"),
        ({"location": ".", "length": 64}, "not a file"),
    ],
)
def test_data_that_are_not_whole(tmp_path, entries, says):
    (tmp_path / "w.bin").write_bytes(weights(4, 4, 1, 1).tobytes())
    with pytest.raises(RepFoldError, match=says):
        read_onnx(_with_outside_weight(tmp_path / "m.onnx", **entries))


def test_a_truncated_file(tmp_path):
    path = one_node(tmp_path / "m.onnx", "Conv", ("n", 4, "h", "w"), weights(4, 4, 3, 3))
    content = path.read_bytes()
    for length in (0, 1, 40, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(RepFoldError, match="ONNX"):
            read_onnx(path)


def test_a_tensor_with_fewer_bytes_than_its_shape(tmp_path):
    path = one_node(tmp_path / "m.onnx", "Conv", ("n", 4, "h", "w"), weights(4, 4, 3, 3))
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = b"\0" * 12
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RepFoldError):
        read_onnx(path)


def test_what_is_no_file_and_no_onnx(tmp_path):
    with pytest.raises(RepFoldError, match="not a file"):
        read_onnx(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(RepFoldError, match="no ONNX file"):
        read_onnx(tmp_path / "m.onnx")


def test_opsets(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"])
    old = write_model(tmp_path / "m.onnx", [node], {"x": ("n", 3)}, ["y"], opset=8)
    with pytest.raises(RepFoldError, match="version_converter"):
        read_onnx(old)
    assert read_onnx(write_model(tmp_path / "m.onnx", [node], {"x": ("n", 3)}, ["y"], opset=9)).opset == 9
    model = onnx.load(tmp_path / "m.onnx")
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RepFoldError, match="pip install -U onnx"):
        read_onnx(tmp_path / "m.onnx")


def test_operators_that_do_not_exist(tmp_path):
    path = one_node(tmp_path / "m.onnx", "Relu", ("n", 3))
    model = onnx.load(path)
    model.graph.node[0].op_type = "Frobnicate"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RepFoldError, match="Frobnicate"):
        read_onnx(path)
    model.graph.node[0].domain = "somebody"
    model.opset_import.append(helper.make_opsetid("somebody", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RepFoldError, match="Frobnicate"):
        imported = read_onnx(path)
        execute(imported.graph, (numbers(2, 3),), imported.state)


def test_shapes_by_values_are_refused_with_the_node(tmp_path):
    path = one_node(tmp_path / "m.onnx", "NonZero", ("n", 3), dtype=TensorProto.INT64)
    with pytest.raises(RepFoldError, match="NonZero"):
        read_onnx(path)


def test_a_constant_larger_than_memory(tmp_path):
    """A few bytes that ask for a terabyte are not followed."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["big"]),
        helper.make_node("Expand", ["small", "shape"], ["wide"]),
        helper.make_node("ReduceMax", ["big"], ["y"], keepdims=0),
        helper.make_node("ReduceMax", ["wide"], ["z"], keepdims=0),
    ]
    constants = {"shape": np.array([1 << 20, 1 << 20], np.int64), "small": np.zeros((1, 1), np.float32)}
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ("n", 3)}, ["y", "z"], constants)
    imported = read_onnx(path)
    assert sum(tensor.numel() for tensor in imported.state.values()) < 10


def test_the_size_limit(tmp_path, monkeypatch):
    path = one_node(tmp_path / "m.onnx", "Conv", ("n", 4, "h", "w"), weights(4, 4, 3, 3))
    monkeypatch.setattr(file, "LARGEST", 100)
    with pytest.raises(RepFoldError, match="2 GB"):
        read_onnx(path)


def test_without_the_extra(tmp_path, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(file.importlib, "import_module", missing)
    with pytest.raises(RepFoldError, match=r"pip install 'repfold\[onnx\]'"):
        read_onnx(tmp_path / "m.onnx")
