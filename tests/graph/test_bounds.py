"""Numbers that a file computes with are bounded: Python's whole numbers would grow until the memory is full."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("onnx")

from onnx import helper
from tests.graph.onnx_files import write_model

from repfold.errors import RepFoldError
from repfold.graph.file import BUFFER, PARAMETER, Written, to_json
from repfold.graph.graph import Check
from repfold.graph.interpret import execute
from repfold.graph.onnx.read import read_onnx
from repfold.graph.reading import from_json
from repfold.graph.record import record
from repfold.graph.sizes import Expression, size_of
from repfold.limits import LARGEST_TENSOR

IMAGE = ("n", 3, "h", "w")
SHAPE = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Concat", ["s", "ten"], ["c"], axis=0)]


def added(result: str) -> list[object]:
    """The last of the numbers ``result``, added to the input."""
    return [
        helper.make_node("Slice", [result, "four", "five"], ["last"]),
        helper.make_node("Cast", ["last"], ["real"], to=1),
        helper.make_node("Add", ["x", "real"], ["y"]),
    ]


def constants(**more: int) -> dict[str, np.ndarray]:
    return {name: np.array([value]) for name, value in {"ten": 10, "four": 4, "five": 5, **more}.items()}


def test_powers_beside_free_sizes_do_not_grow_without_end(tmp_path):
    nodes = [*SHAPE, helper.make_node("Pow", ["c", "large"], ["p"]), *added("p")]
    read_onnx(write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["y"], constants(large=10**9)))


def test_squares_of_squares_do_not_either(tmp_path):
    squares = [helper.make_node("Mul", [f"m{i}"] * 2, [f"m{i + 1}"]) for i in range(60)]
    nodes = [*SHAPE, helper.make_node("Mul", ["c", "c"], ["m0"]), *squares, *added("m60")]
    read_onnx(write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["y"], constants()))


def test_small_powers_of_sizes_are_still_sizes(tmp_path):
    nodes = [*SHAPE, helper.make_node("Pow", ["c", "two"], ["p"]), *added("p")]
    imported = read_onnx(write_model(tmp_path / "m.onnx", nodes, {"x": IMAGE}, ["y"], constants(two=2)))
    x = torch.rand(2, 3, 8, 8)
    (y,) = execute(imported.graph, (x,), imported.state)
    assert torch.allclose(y, x + 100)


class Grown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale).expand(3, 5, 7) + torch.arange(7) + torch.ones(5, 7)


def _put(values: list, op: str, name: str, argument: object) -> None:
    (value,) = (value for value in values if value["op"].startswith(op))
    value["arguments"][name] = argument


CLAIMS = {
    "an expansion": lambda content: _put(content["values"], "expand", "size", [2**20, 2**20, 7]),
    "a shape": lambda content: content["values"][-1].update(shape=[2**20, 2**20]),
    "a size of the example's": lambda content: _put(
        content["values"], "expand", "size", [{"size": ["*", ["size", 0, 0], 2**50]}, 5, 7]
    ),
}


def written() -> tuple[dict, dict]:
    found = record(Grown().eval(), (torch.rand(3, 5, 7),))
    kinds = {path: PARAMETER if isinstance(t, nn.Parameter) else BUFFER for path, t in found.state.items()}
    content = to_json(Written(found.graph, found.arguments, found.output, ("x",), kinds))
    return content, {path: tuple(tensor.shape) for path, tensor in found.state.items()}


def test_the_graph_itself_is_read():
    from_json(*written())


@pytest.mark.parametrize("claim", CLAIMS)
def test_tensors_that_no_memory_holds_are_refused(claim):
    content, shapes = written()
    content = copy.deepcopy(content)
    CLAIMS[claim](content)
    with pytest.raises(RepFoldError, match="too large"):
        from_json(content, shapes)


def test_the_bound_is_beyond_what_networks_need():
    assert LARGEST_TENSOR >= 2 * 3 * 8192**2


def test_a_condition_that_divides_by_zero_does_not_hold():
    check = Check(Expression("==", (Expression("//", (8, size_of(0, 2))), 1)), "its forward decides by it")
    assert check.holds({(0, 2): 8}) and not check.holds({(0, 2): 4}) and not check.holds({(0, 2): 0})
