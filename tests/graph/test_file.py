"""Graphs as JSON: what is written is read back the same, and no hostile one is accepted or takes long."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from repfold.errors import RepFoldError
from repfold.graph.file import BUFFER, FROZEN, PARAMETER, Written, to_json
from repfold.graph.interpret import execute
from repfold.graph.kinds import _KINDS, _OWN_KINDS, Misused, check
from repfold.graph.operators import OPERATORS
from repfold.graph.reading import from_json
from repfold.graph.record import Recorded, record


class Everything(nn.Module):
    """One of each kind of argument: tensors, tuples, sizes, infinities, dtypes, flags, texts."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.frozen = nn.Parameter(torch.rand(4, 1, 1), requires_grad=False)
        self.register_buffer("offset", torch.rand(4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect", bias=False)
        self.norm = nn.BatchNorm2d(4, eps=1e-3)
        self.inner = nn.ModuleDict({"0-a": nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.LeakyReLU(0.3))})

    def forward(self, x: torch.Tensor, by: float) -> Any:
        x = self.norm(self.conv(x))
        x = self.inner["0-a"](x) * self.scale + self.offset - self.frozen
        n, c = x.shape[0], x.size(1)
        first, second = x.view(n, c, -1).reshape(x.shape).chunk(2, dim=1)
        y = torch.cat([first[:, :, ::2, 1:], F.relu(second)[..., ::2, 1:]], dim=1) / x.size(2)
        y = F.pad(y, (1, 0, 2, y.size(3) % 2), value=float("-inf")).clamp(min=-3.0).to(torch.float64)
        y = F.max_pool2d(y, 2, stride=(1, 2)) + x.mean((2, 3), keepdim=True)
        with torch.no_grad():
            sums = torch.cumsum(y, 1)
        return {"logits": (torch.flatten(y, 1), [sums.argmax(1), n * 2]), "by": by, 3: None}


def recorded(network: nn.Module, *arguments: Any) -> tuple[Recorded, Written]:
    found = record(network.eval(), arguments)
    kinds = {path: _kind(tensor) for path, tensor in found.state.items()}
    names = ("x", "by", "z")[: len(arguments)]
    return found, Written(found.graph, found.arguments, found.output, names, kinds)


def _kind(tensor: torch.Tensor) -> str:
    if not isinstance(tensor, nn.Parameter):
        return BUFFER
    return PARAMETER if tensor.requires_grad else FROZEN


def shapes_of(found: Recorded) -> dict[str, tuple[int, ...]]:
    return {path: tuple(tensor.shape) for path, tensor in found.state.items()}


def test_every_kind_of_argument_comes_back() -> None:
    found, written = recorded(Everything(), torch.rand(2, 3, 8, 10), 3.0)
    content = json.loads(json.dumps(to_json(written), allow_nan=False))
    back = from_json(content, shapes_of(found))
    assert to_json(back) == content
    assert [value.op for value in back.graph.values] == [value.op for value in found.graph.values]
    assert back.state["frozen"] == FROZEN and back.state["offset"] == BUFFER and back.state["scale"] == PARAMETER
    assert any(not value.grad for value in back.graph.values)
    assert back.output["by"] == 3.0 and back.output[3] is None and isinstance(back.output["logits"][1], list)
    for shape in ((2, 3, 8, 10), (3, 3, 14, 9)):
        x = torch.rand(shape)
        ours, theirs = execute(back.graph, (x,), found.state), execute(found.graph, (x,), found.state)
        assert all(map(torch.equal, ours, theirs))


def test_what_only_trains_is_the_identity_that_it_is() -> None:
    class DropPath(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.bernoulli(x) if self.training else x

    found, written = recorded(nn.Sequential(nn.Linear(3, 3), DropPath(), nn.Dropout(0.3)), torch.rand(2, 3))
    assert "train_only" in [value.op for value in found.graph.values]
    ops = [value["op"] for value in to_json(written)["values"]]
    assert "train_only" not in ops and "dropout" in ops


class Calls(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.linalg.qr(x)[0], "aten.linalg_qr.default"),
        (lambda x: x + torch.rand_like(x), "aten.rand"),
        (lambda x: {(1, 2): x}, "dict"),
        (lambda x: [x, 1j], "complex"),
    ],
)
def test_what_cannot_be_written_is_named_and_an_export_suggested(function: Any, message: str) -> None:
    _, written = recorded(Calls(function), torch.rand(3, 3))
    with pytest.raises(RepFoldError, match=message) as caught:
        to_json(written)
    assert ".pt2" in str(caught.value)


NOT_WRITTEN = {"train_only", "onnx_node"}


def test_every_argument_of_every_operator_has_a_kind() -> None:
    for op, operator in OPERATORS.items():
        for name in operator.parameters:
            assert (op, name) in _OWN_KINDS or name in _KINDS or op in NOT_WRITTEN, (op, name)


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        ("relu", {}),
        ("relu", {"x": 1}),
        ("softmax", {"x": None, "dim": 1}),
        ("aten.relu_.default", {}),
        ("aten.from_file.default", {"filename": "/etc/passwd"}),
        ("aten.rand.default", {"size": (1,)}),
        ("aten.empty.memory_format", {"size": (1,)}),
        ("aten.__class__.default", {}),
        ("aten.sin", {}),
        ("aten.sin.default", {"self": 1.0}),
        ("aten.sin.__init__", {}),
        ("aten.full.default", {"size": (1, "2"), "fill_value": 1}),
        ("prims.sin.default", {}),
        ("__import__", {}),
    ],
)
def test_misuse_is_refused(op: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(Misused):
        check(op, arguments)


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    found, written = recorded(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()), torch.rand(2, 3, 8, 8))
    return to_json(written), shapes_of(found)


def put(*keys_and_value: Any) -> Callable[[dict[str, Any]], Any]:
    *keys, value = keys_and_value

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = ["+", value, 1]
    return value


CODE = "__import__('os').system('true')"
SIZE, PICK = ["size", 0, 2], ("values", 3, "arguments")  # of the convolution
HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "code as a name": put("values", 3, "name", f"a = {CODE}"),
    "keyword as a name": put("values", 3, "name", "import"),
    "two of one name": put("values", 3, "name", "x_2"),
    "code as a parameter's name": put("parameter_names", [f"x={CODE}"]),
    "code as an argument's name": put(*PICK, CODE, 1),
    "code as a path": put("values", 0, "arguments", "path", 'a".b'),
    "a dunder as a path": put("values", 0, "arguments", "path", "a.__class__"),
    "code as a scope": put("values", 3, "scope", f'a"); {CODE}'),
    "unknown operator": put("values", 3, "op", "os.system"),
    "operator that writes": put("values", 4, {"op": "aten.relu_.default"}),
    "operator of another namespace": put("values", 3, "op", "prims.convert_element_type.default"),
    "lost argument": lambda content: content["values"][3]["arguments"].pop("stride"),
    "text for a tuple": put(*PICK, "stride", "22"),
    "number for a value": put(*PICK, "x", 2),
    "number for a flag": put(*PICK, "transposed", 0),
    "unknown kind": put(*PICK, "x", {"object": "x"}),
    "use before": put("values", 3, "arguments", "x", {"value": "relu_4"}),
    "endless number": put(*PICK, "groups", 10**30),
    "not a dtype": put("values", 3, "dtype", "load"),
    "tensor that is not there": put("values", 0, "arguments", "path", "nothing"),
    "tensor of another shape": put("values", 0, "shape", [1]),
    "deep arguments": put(*PICK, "stride", [[[[[[1]]]]]]),
    "deep size": put(*PICK, "groups", {"size": nested(SIZE, 50_000)}),
    "long size": put(*PICK, "groups", {"size": ["+", *[SIZE] * 5000]}),
    "huge power": put(*PICK, "groups", {"size": ["**", 2**50, 2**50]}),
    "power of powers": put(*PICK, "groups", {"size": ["**", ["**", ["**", SIZE, 8], 8], 8]}),
    "unknown operation": put(*PICK, "groups", {"size": ["eval", SIZE]}),
    "size of another input": put(*PICK, "groups", {"size": ["size", 1, 0]}),
    "size of no axis": put(*PICK, "groups", {"size": ["size", 0, 4]}),
    "size that is no number": put("values", 3, "shape", [True]),
    "no example sizes": put("sizes", []),
    "negative example sizes": put("sizes", [[0, 0, -1], [0, 1, 3], [0, 2, 8], [0, 3, 8]]),
    "check that is none": put("checks", [{"condition": True, "reason": ""}]),
    "check without a reason": put("checks", [{"condition": ["==", SIZE, 8]}]),
    "unknown output": put("outputs", ["nothing"]),
    "another output": put("output", {"value": "conv_3"}),
    "another argument": put("arguments", []),
    "deep output": put("output", json.loads('{"list": [' * 300 + "1" + "]}" * 300)),
    "unknown update": put("updates", {"0.weight": "nothing"}),
    "no kind of state": put("state", {}),
    "unknown kind of state": put("state", {"0.weight": "code", "0.bias": "parameter"}),
    "no values": put("values", None),
    "values that are none": put("values", [1, 2]),
    "a list": put("values", 3, []),
    "text": put("values", "values"),
}


def test_the_plain_graph_that_the_hostile_ones_are_made_of_is_good(plain: Any) -> None:
    content, shapes = plain
    assert [v["name"] for v in content["values"]] == ["_0_weight_0", "_0_bias_1", "x_2", "conv_3", "relu_4"]
    from_json(copy.deepcopy(content), shapes)


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_graph_is_refused_at_once(attack: str, plain: Any) -> None:
    content, shapes = copy.deepcopy(plain[0]), plain[1]
    HOSTILE[attack](content)
    start = time.thread_time()  # which stands still while other programs have the core
    with pytest.raises(RepFoldError):
        from_json(content, shapes)
    assert time.thread_time() - start < 2
    for item in (None, [], 3, "graph", {}):
        with pytest.raises(RepFoldError):
            from_json(item, shapes)
