"""The door from ONNX: every reading equals ONNX Runtime, and so does the file that is written of it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from tests.graph.onnx_files import (  # noqa: E402
    agree,
    by_runtime,
    numbers,
    one_node,
    operators,
    same_as_runtime,
    weights,
    write_model,
)

from repfold.errors import RepFoldError  # noqa: E402
from repfold.graph.interpret import execute  # noqa: E402
from repfold.graph.onnx.read import read_onnx  # noqa: E402
from repfold.graph.onnx.write import write_onnx  # noqa: E402
from repfold.graph.record import record  # noqa: E402
from repfold.graph.sizes import Expression  # noqa: E402

IMAGE = ("n", 4, "h", "w")
ROW = ("n", 6)
F32 = np.float32


def ints(*items: int) -> np.ndarray:
    return np.array(items, np.int64)


def floats(*items: float) -> np.ndarray:
    return np.array(items, np.float32)


def one(number: float) -> np.ndarray:
    return np.array(number, np.float32)


STRIDED = {"kernel_shape": [3, 3], "strides": [2, 2]}
ALIGNED = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
TRANSPOSED = {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}

# op, shape of x, constants, attributes (and the opset, 17 if not given), what it is read as
CASES: list[tuple[str, tuple, list, dict[str, Any], list[str]]] = [
    ("Conv", IMAGE, [weights(6, 2, 3, 3), weights(6)], {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]}, ["conv"]),
    ("Conv", IMAGE, [weights(6, 4, 3, 2)], {"pads": [1, 0, 2, 1], "dilations": [2, 1]}, ["pad", "conv"]),
    ("Conv", IMAGE, [weights(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, ["pad", "conv"]),
    ("Conv", IMAGE, [weights(6, 4, 3, 3)], {"auto_pad": "SAME_LOWER", "strides": [2, 3]}, ["pad", "conv"]),
    ("Conv", IMAGE, [weights(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER"}, ["conv"]),
    ("Conv", IMAGE, [weights(6, 4, 3, 3)], {"auto_pad": "VALID"}, ["conv"]),
    ("Conv", ("n", 4, 16, 15), [weights(6, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, ["pad", "conv"]),
    ("Conv", ("n", 4, "l"), [weights(6, 4, 3)], {"pads": [1, 1]}, ["conv"]),
    ("ConvTranspose", IMAGE, [weights(4, 3, 3, 3), weights(6)], TRANSPOSED, ["conv"]),
    ("ConvTranspose", IMAGE, [weights(4, 3, 3, 3)], {"strides": [2, 2], "pads": [0, 0, 1, 1]}, ["conv", "pad"]),
    ("Gemm", ROW, [weights(6, 5), weights(5)], {}, ["linear"]),
    ("Gemm", ROW, [weights(5, 6), weights(1, 5)], {"transB": 1}, ["linear"]),
    ("Gemm", ROW, [weights(5, 6), weights(1)], {"transB": 1}, ["linear"]),
    ("Gemm", ROW, [weights(5, 6), weights(5)], {"transB": 1, "alpha": 0.5, "beta": 2.0},
     ["linear", "mul", "mul", "add"]),
    ("Gemm", (6, 3), [weights(6, 5), weights(3, 5)], {"transA": 1}, ["permute", "linear", "add"]),
    ("MatMul", ("n", 7, 6), [weights(6, 5)], {}, ["linear"]),
    ("MatMul", ("n", 2, 5, 6), [weights(2, 6, 5)], {}, ["matmul"]),
    ("BatchNormalization", IMAGE, [weights(4), weights(4), weights(4), weights(4) ** 2], {"epsilon": 0.01},
     ["batch_norm"]),
    ("InstanceNormalization", IMAGE, [weights(4), weights(4)], {"epsilon": 0.01}, ["instance_norm"]),
    ("LayerNormalization", ("n", 3, 6), [weights(6), weights(6)], {}, ["layer_norm"]),
    ("GroupNormalization", IMAGE, [weights(4), weights(4)], {"num_groups": 2, "opset": 21}, ["group_norm"]),
    ("PRelu", IMAGE, [weights(4, 1, 1)], {}, ["prelu"]),
    ("PRelu", IMAGE, [weights(1)], {}, ["prelu"]),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, ["max_pool"]),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}, ["pad", "max_pool"]),
    ("MaxPool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, ["max_pool"]),
    ("MaxPool", IMAGE, [], {**STRIDED, "pads": [0, 0, 1, 1], "ceil_mode": 1}, ["pad", "max_pool"]),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, ["avg_pool"]),
    ("AveragePool", IMAGE, [], {**STRIDED, "pads": [1] * 4, "count_include_pad": 1}, ["avg_pool"]),
    ("AveragePool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, ["avg_pool"]),
    ("AveragePool", ("n", 4, 9, 9), [], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
     ["pad", "avg_pool", "aten.full.default", "pad", "avg_pool", "div"]),
    ("AveragePool", ("n", 4, 9, 9), [], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER",
                                         "count_include_pad": 1}, ["pad", "avg_pool"]),
    ("GlobalAveragePool", IMAGE, [], {}, ["mean"]),
    ("GlobalMaxPool", IMAGE, [], {}, ["aten.amax.default"]),
    ("ReduceMean", IMAGE, [], {"axes": [2, 3], "keepdims": 0}, ["mean"]),
    ("ReduceMean", IMAGE, [ints(-1, -2)], {"opset": 18}, ["mean"]),
    ("ReduceSum", IMAGE, [ints(1)], {"keepdims": 0}, ["sum"]),
    ("ReduceMax", IMAGE, [], {"axes": [1], "keepdims": 0}, ["aten.amax.default"]),
    ("ReduceL2", ("n", 4, 7, 7), [], {"axes": [1]}, ["aten.linalg_vector_norm.default"]),
    ("ReduceSumSquare", IMAGE, [], {"axes": [1]}, ["mul", "sum"]),
    ("Softmax", ("n", 3, 6), [], {"axis": 1}, ["softmax"]),
    ("Softmax", ("n", 3, 6), [], {"axis": 1, "opset": 11}, ["view", "softmax", "view"]),
    ("LogSoftmax", ROW, [], {"opset": 11}, ["log_softmax"]),
    ("Clip", ROW, [one(0.0), one(6.0)], {}, ["clamp"]),
    ("Clip", ROW, [None, one(0.5)], {}, ["clamp"]),
    ("Clip", ROW, [], {"min": -0.5, "max": 0.5, "opset": 10}, ["clamp"]),
    ("LeakyRelu", ROW, [], {"alpha": 0.1}, ["leaky_relu"]),
    ("Elu", ROW, [], {"alpha": 0.7}, ["elu"]),
    ("Celu", ROW, [], {"alpha": 0.7}, ["aten.celu.default"]),
    ("Selu", ROW, [], {}, ["aten.elu.default"]),
    ("HardSigmoid", ROW, [], {}, ["mul", "add", "clamp"]),
    ("HardSigmoid", ROW, [], {"alpha": 1 / 6}, ["hardsigmoid"]),
    ("HardSwish", ROW, [], {}, ["hardswish"]),
    ("Softplus", ROW, [], {}, ["softplus"]),
    ("Gelu", ROW, [], {"approximate": "tanh", "opset": 20}, ["gelu"]),
    ("Mish", ROW, [], {"opset": 18}, ["mish"]),
    ("Erf", ROW, [], {}, ["aten.erf.default"]),
    ("Add", ROW, [one(2.0)], {}, ["add"]),
    ("Sub", ROW, [weights(6)], {}, ["sub"]),
    ("Pow", ROW, [one(2.0)], {}, ["pow"]),
    ("Max", ROW, [weights(6)], {}, ["maximum"]),
    ("Dropout", ROW, [one(0.3)], {}, ["dropout"]),
    ("Identity", ROW, [], {}, []),
    ("Flatten", IMAGE, [], {"axis": 2}, ["view"]),
    ("Reshape", IMAGE, [ints(0, 2, 2, -1)], {}, ["view"]),
    ("Reshape", IMAGE, [ints(-1, 4)], {}, ["view"]),
    ("Squeeze", ("n", 1, 6), [ints(1)], {}, ["view"]),
    ("Unsqueeze", ROW, [], {"axes": [0, 2], "opset": 11}, ["view"]),
    ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}, ["permute"]),
    ("Slice", IMAGE, [ints(1, -9), ints(2**31 - 1, -1), ints(2, 3), ints(2, 1)], {}, ["slice", "slice"]),
    ("Slice", IMAGE, [], {"starts": [0], "ends": [3], "axes": [1], "opset": 9}, ["slice"]),
    ("Slice", IMAGE, [ints(-1), ints(-(2**31)), ints(1), ints(-1)], {}, ["flip"]),
    ("Gather", IMAGE, [np.array(-1, np.int64)], {"axis": 1}, ["select"]),
    ("Gather", IMAGE, [ints(1, 2, 3)], {"axis": 1}, ["slice"]),
    ("Gather", IMAGE, [np.array([[3, 0], [-2, 1]], np.int64)], {"axis": 1}, ["aten.index_select.default", "view"]),
    ("Expand", ("n", 1, 6), [ints(2, 1, 3, 1)], {}, ["expand"]),
    ("Tile", ROW, [ints(2, 3)], {}, ["aten.repeat.default"]),
    ("Pad", IMAGE, [ints(0, 1, 2, 0, 0, 0, 0, 1), one(0.5)], {}, ["pad"]),
    ("Pad", IMAGE, [ints(0, 0, 2, 0, 0, 0, -1, 1)], {}, ["pad"]),
    ("Pad", IMAGE, [ints(0, 0, 1, 2, 0, 0, 2, 1)], {"mode": "reflect"}, ["pad"]),
    ("Pad", IMAGE, [ints(2, 1, 1, 2), None, ints(-1, -2)], {"mode": "edge", "opset": 18}, ["pad"]),
    ("Resize", IMAGE, [None, floats(1, 1, 2, 2)], {"coordinate_transformation_mode": "asymmetric",
                                                  "nearest_mode": "floor"}, ["resize"]),
    ("Resize", IMAGE, [None, floats(1, 1, 2, 3)], {}, ["resize"]),
    ("Resize", IMAGE, [None, floats(1, 1, 2, 2)], {"mode": "linear"}, ["resize"]),
    ("Resize", IMAGE, [None, floats(1, 1, 1.5, 0.7)], {"mode": "cubic"}, ["resize"]),
    ("Resize", (1, 4, 9, 9), [None, None, ints(1, 4, 20, 13)], ALIGNED, ["resize"]),
    ("Upsample", IMAGE, [floats(1, 1, 2, 2)], {"opset": 9}, ["resize"]),
    ("DepthToSpace", IMAGE, [], {"blocksize": 2, "mode": "CRD"}, ["pixel_shuffle"]),
    ("DepthToSpace", IMAGE, [], {"blocksize": 2}, ["view", "permute", "view"]),
    ("SpaceToDepth", ("n", 4, 8, 6), [], {"blocksize": 2}, ["view", "permute", "view"]),
    ("CumSum", ROW, [np.array(1, np.int64)], {}, ["onnx_node"]),
    ("ThresholdedRelu", IMAGE, [], {"alpha": 0.3}, ["onnx_node"]),
    ("LpNormalization", ROW, [], {}, ["onnx_node"]),
    ("LRN", IMAGE, [], {"size": 3}, ["onnx_node"]),
]  # fmt: skip


def _inputs(shape: tuple, size: int, batch: int) -> torch.Tensor:
    return numbers(*(n if isinstance(n, int) else batch if i == 0 else size + i for i, n in enumerate(shape)))


@pytest.mark.parametrize(
    "op, shape, constants, attributes, read_as", CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_a_node_is_read_as_it_is_and_written_again(tmp_path, op, shape, constants, attributes, read_as):
    path = one_node(tmp_path / "node.onnx", op, shape, *constants, **attributes)
    batches = (2, 1, 3) if shape[0] == "n" else (0,)
    imported = same_as_runtime(path, *((_inputs(shape, 9 + 4 * i, batch),) for i, batch in enumerate(batches)))
    assert operators(imported) == read_as
    assert not imported.remarks


@pytest.mark.parametrize(
    "op",
    ["Neg", "Sqrt", "Exp", "Tanh", "Sigmoid", "Relu", "Log", "Reciprocal", "Abs", "Floor", "Ceil", "Round", "Sign"],
)
def test_functions_of_one_number(tmp_path, op):
    path = one_node(tmp_path / "node.onnx", op, ROW)
    imported = same_as_runtime(path, (numbers(3, 6).abs() + 0.5,))
    assert "onnx_node" not in operators(imported)


def test_comparisons_casts_and_places(tmp_path):
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("Where", ["positive", "x", "minus"], ["chosen"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Not", ["positive"], ["negative"]),
        helper.make_node("ArgMax", ["x"], ["place"], axis=1, keepdims=0),
        helper.make_node("TopK", ["x", "two"], ["largest", "places"]),
    ]
    types = {
        "whole": TensorProto.INT64,
        "negative": TensorProto.BOOL,
        "place": TensorProto.INT64,
        "places": TensorProto.INT64,
    }
    path = write_model(
        tmp_path / "m.onnx", nodes, {"x": ROW}, ["chosen", "whole", "negative", "place", "largest", "places"],
        {"zero": one(0.0), "minus": weights(6), "two": ints(2)}, types=types,
    )  # fmt: skip
    imported = same_as_runtime(path, (numbers(3, 6),), (torch.zeros(2, 6),))
    assert operators(imported).count("onnx_node") == 1  # TopK: which of equal numbers comes first is its own matter
    assert imported.names.outputs == ("chosen", "whole", "negative", "place", "largest", "places")


def test_whole_numbers_divide_towards_zero(tmp_path):
    nodes = [helper.make_node("Div", ["x", "three"], ["y"])]
    types = {"x": TensorProto.INT64, "y": TensorProto.INT64}
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ROW}, ["y"], {"three": ints(3)}, types=types)
    same_as_runtime(path, (torch.arange(-9, 3).reshape(2, 6),))


def test_a_product_and_its_sum_are_one_layer(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["b", "p"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ("n", 3, 6)}, ["y"], {"w": weights(6, 5), "b": weights(5)})
    imported = same_as_runtime(path, (numbers(2, 3, 6),))
    assert operators(imported) == ["linear"]
    # a product that something else reads too stays a product
    path = write_model(
        tmp_path / "m.onnx", nodes, {"x": ("n", 3, 6)}, ["y", "p"], {"w": weights(6, 5), "b": weights(5)}
    )
    assert operators(same_as_runtime(path, (numbers(2, 3, 6),))) == ["linear", "add"]


def test_arithmetic_of_shapes_becomes_sizes(tmp_path):
    """Reshape to (N, C/2, H·W·2) and a resize to twice H and W + 1, as exporters write them."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        *(helper.make_node("Gather", ["shape", f"at{i}"], [f"d{i}"]) for i in range(4)),
        helper.make_node("Mul", ["d2", "two"], ["h2"]),
        helper.make_node("Add", ["d3", "one"], ["w1"]),
        *(helper.make_node("Unsqueeze", [n, "zero"], [f"{n}_"]) for n in ("d0", "d1", "h2", "w1")),
        helper.make_node("Concat", ["d0_", "d1_", "h2_", "w1_"], ["size"], axis=0),
        helper.make_node("Resize", ["x", "", "", "size"], ["large"], mode="linear"),
        helper.make_node("Mul", ["d2", "d3"], ["hw"]),
        helper.make_node("Cast", ["hw"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sqrt", ["real"], ["root"]),
        helper.make_node("Div", ["x", "root"], ["scaled"]),
        helper.make_node("Concat", ["d0_", "half", "minus"], ["flat"], axis=0),
        helper.make_node("Reshape", ["scaled", "flat"], ["rows"]),
    ]
    constants = {f"at{i}": np.array(i, np.int64) for i in range(4)}
    constants |= {
        "two": np.array(2, np.int64),
        "one": np.array(1, np.int64),
        "zero": ints(0),
        "half": ints(2),
        "minus": ints(-1),
    }
    path = write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["large", "rows"], constants)
    imported = same_as_runtime(path, (numbers(2, 4, 8, 9),), (numbers(1, 4, 5, 12),))
    assert operators(imported) == ["resize", "div", "view"]
    assert not imported.graph.state


def test_sizes_as_tensors_and_filled_ones(tmp_path):
    """A mask of ones of the input's size, and the size itself as an output."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node(
            "ConstantOfShape", ["shape"], ["ones"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
        ),
        helper.make_node("Add", ["x", "ones"], ["y"]),
    ]
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ROW}, ["y", "shape"], types={"shape": TensorProto.INT64})
    same_as_runtime(path, (numbers(2, 6),), (numbers(5, 6),))


def test_two_inputs_whose_sizes_have_one_name(tmp_path):
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, {"a": ("n", 3), "b": ("n", 3)}, ["y"])
    imported = same_as_runtime(path, (numbers(4, 3), numbers(4, 3, seed=2)))
    assert imported.names.inputs == ("a", "b")
    a, b = imported.arguments
    assert a.shape == b.shape and isinstance(a.shape[0], Expression)
    assert len(imported.graph.checks) >= 1


def test_a_size_that_the_file_fixes_is_fixed_and_said(tmp_path):
    """A baked-in batch of one, whose input claims to be free: only that batch is computed."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ("n", 6)}, ["y"], {"shape": ints(1, 2, 3)})
    imported = same_as_runtime(path, (numbers(1, 6),))
    assert imported.arguments[0].shape == (1, 6)
    assert "fixed to 1x6" in imported.remarks[0] and "Reshape" in imported.remarks[0]


def test_sizes_can_be_given_by_their_names(tmp_path):
    """A last layer that takes images of 40 pixels only."""
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ("n", 1, "side", "side")}, ["y"], {"w": weights(1600, 3)})
    with pytest.raises(RepFoldError, match="sizes="):
        read_onnx(path)
    imported = read_onnx(path, sizes={"side": 40})
    x = numbers(3, 1, 40, 40)
    agree(by_runtime(path, x), [y.detach().numpy() for y in execute(imported.graph, (x,), imported.state)])


class TestKept:
    """Nodes without a reading: run as they are, written as they were."""

    def test_of_a_foreign_library(self, tmp_path):
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BiasGelu", ["c", "b"], ["y"], domain="com.microsoft", name="/act/BiasGelu"),
        ]
        constants = {"w": weights(4, 4, 1, 1), "b": weights(5)}
        path = write_model(
            tmp_path / "m.onnx", nodes, {"x": (1, 4, 5, 5)}, ["y"], constants, domains={"com.microsoft": 1}
        )
        onnx_model = onnx.load(path)
        del onnx_model.graph.output[:]
        onnx_model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 5, 5]))
        onnx.save(onnx_model, path)
        imported = read_onnx(path)
        assert operators(imported) == ["conv", "onnx_node"]
        x = numbers(1, 4, 5, 5)
        with torch.no_grad():
            agree(by_runtime(path, x), [y.numpy() for y in execute(imported.graph, (x,), imported.state)])
        write_onnx(imported.graph, imported.state, tmp_path / "w.onnx", names=imported.names, opset=imported.opset)
        agree(by_runtime(path, x), by_runtime(tmp_path / "w.onnx", x))
        written = onnx.load(tmp_path / "w.onnx").graph.node[1]
        assert (written.op_type, written.domain, written.name) == ("BiasGelu", "com.microsoft", "/act/BiasGelu")

    def test_with_graphs_inside(self, tmp_path):
        """An If by the input's values: its branches read values from outside."""
        branches = [
            helper.make_graph([helper.make_node(op, ["r", "k"], ["inner"])], op, [], [
                helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["n", 6])])
            for op in ("Add", "Sub")
        ]  # fmt: skip
        nodes = [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["positive"]),
            helper.make_node("If", ["positive"], ["y"], then_branch=branches[0], else_branch=branches[1]),
            helper.make_node("Neg", ["y"], ["inner_"]),
        ]
        path = write_model(tmp_path / "m.onnx", nodes, {"x": ROW}, ["inner_"], {"zero": one(0.0), "k": weights(6)})
        x = numbers(3, 6)
        imported = same_as_runtime(path, (x,), (-x.abs(),), (x.abs(),))
        assert operators(imported) == ["relu", "sum", "aten.gt.Tensor", "onnx_node", "neg"]

    def test_of_an_older_opset_are_lifted(self, tmp_path):
        """The reduction's axes are an attribute in opset 13, an input in 18."""
        nodes = [helper.make_node("ReduceProd", ["x"], ["y"], axes=[1]), helper.make_node("Hardmax", ["y"], ["z"])]
        path = write_model(tmp_path / "m.onnx", nodes, {"x": ROW}, ["z"], opset=11)
        imported = read_onnx(path)
        write_onnx(imported.graph, imported.state, tmp_path / "w.onnx", names=imported.names, opset=18)
        x = numbers(3, 6)
        agree(by_runtime(path, x), by_runtime(tmp_path / "w.onnx", x))

    def test_have_no_gradient(self, tmp_path):
        imported = read_onnx(one_node(tmp_path / "node.onnx", "CumSum", ROW, np.array(1, np.int64)))
        x = numbers(2, 6).requires_grad_()
        (y,) = execute(imported.graph, (x,), imported.state)
        with pytest.raises(RepFoldError, match="no gradient"):
            y.sum().backward()

    def test_that_draw_random_numbers_are_said(self, tmp_path):
        path = one_node(tmp_path / "node.onnx", "RandomNormalLike", ROW)
        assert "random" in read_onnx(path).remarks[0]


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.point = nn.Conv2d(channels, channels, 1, groups=2)
        self.point_bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)) + self.point_bn(self.point(x)) + x)


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.MaxPool2d(3, 2, 1))
        self.stage = nn.ModuleList([_Block(8), _Block(8)])
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.stage:
            x = block(x)
        a, b = (x * self.gate(x)).chunk(2, 1)
        x = torch.cat([a, nn.functional.interpolate(b, size=a.shape[2:], mode="bilinear"), x], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(self.drop(x.mean((2, 3))))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    network = _Network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def _export(network: nn.Module, path, *, dynamo: bool) -> None:
    x = numbers(2, 3, 32, 40)
    if dynamo:
        free = {0: torch.export.Dim("batch"), 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
        program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=(free,), optimize=False, verbose=False)
        assert program is not None
        program.save(path)
        return
    torch.onnx.export(
        network, (x,), str(path), dynamo=False, opset_version=13, do_constant_folding=False, input_names=["image"],
        output_names=["logits"], training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}, "logits": {0: "batch"}},
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
def test_exported_networks(network, tmp_path, dynamo):
    if dynamo:
        pytest.importorskip("onnxscript")
    path = tmp_path / "network.onnx"
    _export(network, path, dynamo=dynamo)
    imported = same_as_runtime(path, (numbers(2, 3, 32, 40),), (numbers(1, 3, 48, 32),))
    found = operators(imported)
    assert "onnx_node" not in found
    assert found.count("batch_norm") == 5
    state = network.state_dict()
    for name in ("stem.0.weight", "stage.1.conv.weight", "stage.0.bn.running_mean", "fc.weight", "fc.bias"):
        torch.testing.assert_close(imported.state[name].detach(), state[name], rtol=0, atol=0)
    scopes = {value.scope for value in imported.graph.values if value.op in ("conv", "batch_norm", "linear")}
    assert scopes == {
        name for name, module in network.named_modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))
    }
    x = numbers(3, 3, 40, 56, seed=3)
    with torch.no_grad():
        (y,) = execute(imported.graph, (x,), imported.state)
        torch.testing.assert_close(y, network(x), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_names_and_free_sizes_are_kept(network, tmp_path):
    path, written = tmp_path / "network.onnx", tmp_path / "written.onnx"
    _export(network, path, dynamo=False)
    imported = read_onnx(path)
    write_onnx(imported.graph, imported.state, written, names=imported.names, opset=imported.opset)
    graph = onnx.load(written).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["image", "logits"]
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 3, "height", "width"]
    assert [dim.dim_param or dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim] == ["batch", 5]
    again = read_onnx(written)
    assert set(again.state) == set(imported.state)
    assert operators(again) == operators(imported)


def test_a_recorded_network_is_written(network, tmp_path):
    """A graph from PyTorch needs no exporter."""
    network = nn.Sequential(network.stem, *network.stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    recorded = record(network, (numbers(2, 3, 32, 40),))
    write_onnx(recorded.graph, recorded.state, tmp_path / "m.onnx")
    other = numbers(1, 3, 48, 32)
    with torch.no_grad():
        agree(by_runtime(tmp_path / "m.onnx", other), [network(other).numpy()])
    dims = onnx.load(tmp_path / "m.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, "height", "width"]


def test_what_onnx_lacks_is_refused_by_name(tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    recorded = record(Odd(), (numbers(2, 3),))
    with pytest.raises(RepFoldError, match="bessel"):
        write_onnx(recorded.graph, recorded.state, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_one_tensor_for_a_weight_and_a_statistic_becomes_two(tmp_path):
    """An exporter stores equal tensors once: a norm's weight and variance are both ones."""
    nodes = [helper.make_node("BatchNormalization", ["x", "bn.weight", "bn.bias", "bn.bias", "bn.weight"], ["y"])]
    constants = {"bn.weight": np.ones(4, F32), "bn.bias": np.zeros(4, F32)}
    path = write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["y"], constants)
    imported = same_as_runtime(path, (numbers(2, 4, 3, 3),))
    assert set(imported.state) == {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"}
    assert isinstance(imported.state["bn.weight"], nn.Parameter)
    assert not isinstance(imported.state["bn.running_var"], nn.Parameter)


def test_names_without_paths_get_them(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "onnx::Conv_12"], ["c"], name="/layer1/layer1.0/conv/Conv"),
        helper.make_node("Conv", ["c", "conv2d/kernel:0"], ["d"], name="model/block/conv2d/Conv2D"),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    constants = {name: weights(4, 4, 1, 1) for name in ("onnx::Conv_12", "conv2d/kernel:0", "w")}
    imported = read_onnx(write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["y"], constants))
    assert set(imported.state) == {"layer1.0.conv.weight", "model.block.conv2d.weight", "Conv_2.weight"}


def test_numbers_that_are_no_finite_float(tmp_path):
    path = one_node(tmp_path / "node.onnx", "Add", ROW, one(-math.inf))
    same_as_runtime(path, (numbers(2, 6),))


def test_positions_up_to_a_free_size(tmp_path):
    """An encoding by place: 0, 1, ... width − 1, added to every row."""
    nodes = [
        helper.make_node("Shape", ["x"], ["size"], start=1),
        helper.make_node("Squeeze", ["size"], ["width"]),
        helper.make_node("Range", ["zero", "width", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "real"], ["y"]),
    ]
    constants = {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)}
    path = write_model(tmp_path / "m.onnx", nodes, {"x": ("n", "w")}, ["y"], constants)
    imported = same_as_runtime(path, (numbers(2, 5),), (numbers(3, 8),))
    assert "onnx_node" not in operators(imported)
