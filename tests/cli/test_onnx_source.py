"""An ONNX file as a command's MODEL."""

import json

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from repfold.cli import main  # noqa: E402


@pytest.fixture
def model(tmp_path):
    """Two convolutions with norms, a kind of node that is only kept between them, free batch and image sizes."""
    random = np.random.default_rng(0)
    draw = lambda *sizes: random.standard_normal(sizes).astype(np.float32)  # noqa: E731
    constants, nodes = {}, []
    for i, given in enumerate(("image", "mid")):
        constants[f"conv{i}.weight"] = draw(4, 4, 3, 3)
        constants |= {f"bn{i}.{name}": draw(4) for name in ("weight", "bias", "running_mean")}
        constants[f"bn{i}.running_var"] = draw(4) ** 2 + 0.5
        statistics = [f"bn{i}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
        nodes.append(helper.make_node("Conv", [given, f"conv{i}.weight"], [f"c{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("BatchNormalization", [f"c{i}", *statistics], ["norm" if i == 0 else "map"]))
        if i == 0:
            nodes.append(helper.make_node("LRN", ["norm"], ["mid"], size=3))
    sizes = ["batch", 4, "height", "width"]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("image", "map")]
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "m", values[:1], values[1:], held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_fold_writes_onnx_back(model, tmp_path, capsys):
    plain = tmp_path / "plain.onnx"
    main(["fold", str(model), "-o", str(plain), "--json"])
    summary = json.loads(capsys.readouterr().out)
    assert len(summary["certificate"]["regions"]) == 2
    graph = onnx.load(plain).graph
    assert [node.op_type for node in graph.node] == ["Conv", "LRN", "Conv"]
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        4,
        "height",
        "width",
    ]
    assert (graph.input[0].name, graph.output[0].name) == ("image", "map")
    x = torch.randn(3, 4, 9, 11).numpy()
    (before,), (after,) = (runtime.InferenceSession(str(path)).run(None, {"image": x}) for path in (model, plain))
    np.testing.assert_allclose(after, before, atol=1e-5 * np.abs(before).max())


def test_what_is_no_onnx_is_refused(tmp_path, capsys):
    (tmp_path / "m.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(SystemExit) as stopped:
        main(["fold", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "p.onnx")])
    assert stopped.value.code == 2
    assert "ONNX" in capsys.readouterr().err
