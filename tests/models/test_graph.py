"""Graphs as JSON: every kind of node and layer comes back exact, and no hostile graph gets to run anything."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import repfold
from repfold.errors import RepFoldError
from repfold.models import graph, layers, vocabulary


class Everything(nn.Module):
    """One of each kind of node and of argument."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.register_buffer("offset", torch.rand(4, 1, 1))
        self.conv = nn.Conv2d(3, 4, 3, padding="same", padding_mode="reflect", bias=False)
        self.shared = nn.BatchNorm2d(4, eps=1e-3, momentum=None)
        self.inner = nn.ModuleDict({"0": nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.LeakyReLU(0.3))})

    def forward(self, x, scale_by=2.0):
        x = self.shared(self.shared(self.conv(x)))
        x = self.inner["0"](x) * self.scale + self.offset
        n, c = x.shape[0], x.size(1)
        first, second = x.view(n, c, -1).reshape(x.shape).chunk(2, dim=1)
        y = torch.cat([first[:, :, ::2, 1:], F.relu(second)[..., ::2, 1:]], dim=1) / math.sqrt(4)
        y = F.pad(y, (1, 0, 2, 1), value=float("-inf")).clamp(min=-3.0).to(torch.float64)
        y = F.max_pool2d(y, 2, stride=(1, 2)) + F.interpolate(x, size=y.shape[2:]).mean((2, 3), keepdim=True)
        return {"logits": torch.flatten(y, 1).contiguous(memory_format=torch.contiguous_format), "by": scale_by}


def round_trip(network: nn.Module, path) -> nn.Module:
    repfold.save(fx.symbolic_trace(network.eval()), path)
    return repfold.load(path)


def test_every_kind_of_node_comes_back_exact(tmp_path):
    network = Everything()
    loaded = round_trip(network, tmp_path / "net.safetensors")
    x = torch.rand(2, 3, 8, 10)
    ours, theirs = loaded(x, 3.0), network(x, 3.0)
    assert torch.equal(ours["logits"], theirs["logits"]) and ours["by"] == theirs["by"] == 3.0
    assert loaded(x)["by"] == 2.0
    assert isinstance(loaded.scale, nn.Parameter) and not isinstance(loaded.offset, nn.Parameter)
    assert "offset" in loaded.state_dict()
    again = round_trip(copy.deepcopy(loaded), tmp_path / "again.safetensors")
    assert torch.equal(again(x)["logits"], theirs["logits"])


LAYERS = [
    nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2),
    nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), bias=False),
    nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=1),
    nn.Linear(3, 2, bias=False),
    nn.BatchNorm1d(3, affine=False),
    nn.BatchNorm2d(3, track_running_stats=False),
    nn.SyncBatchNorm(3),
    nn.InstanceNorm2d(3, affine=True),
    nn.GroupNorm(2, 4, eps=1e-3),
    nn.LayerNorm([3, 4], bias=False),
    nn.RMSNorm(4),
    nn.PReLU(3),
    nn.Hardtanh(-2.0, 3.0),
    nn.Softmax(dim=1),
    nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    nn.AvgPool2d((2, 3), count_include_pad=False, divisor_override=5),
    nn.AdaptiveAvgPool2d((None, 2)),
    nn.LPPool2d(2, 3),
    nn.ConstantPad2d((1, 2, 3, 4), 0.5),
    nn.ZeroPad2d(1),
    nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=True),
    nn.UpsamplingBilinear2d(scale_factor=2),
    nn.Unflatten(1, (2, 2)),
    nn.Dropout2d(0.3),
    nn.Embedding(5, 3, padding_idx=1),
    nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, bias=False),
    nn.PixelShuffle(2),
    nn.GELU("tanh"),
    nn.ELU(0.5),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_are_rebuilt_from_their_arguments(layer):
    found = layers.arguments(layer)
    rebuilt = layers.build(layers.class_name(layer), json_round_trip(found)).to_empty(device="cpu")
    rebuilt.load_state_dict(layer.state_dict())
    assert repr(rebuilt) == repr(layer)
    skipped = {"training", "_parameters", "_buffers", "_modules"}
    plain = {key: value for key, value in vars(layer).items() if not key.startswith("_") and key not in skipped}
    assert plain == {key: vars(rebuilt)[key] for key in plain}


def json_round_trip(found: dict) -> dict:
    written = json.loads(json.dumps({key: graph.encode(value, "") for key, value in found.items()}))
    return {key: graph.decode(value, {}) for key, value in written.items()}


def test_every_class_of_the_vocabulary_is_in_torch():
    assert [name for name in vocabulary.CLASSES if not hasattr(nn, name)] == []


def test_every_function_of_the_vocabulary_is_in_torch():
    named = {f"{module}.{name}" for module, names in vocabulary.FUNCTIONS.items() for name in names.split()}
    assert named - vocabulary.functions().keys() == set()
    assert [name for name in vocabulary.METHODS if not hasattr(torch.Tensor, name)] == []


class Foreign(nn.ReLU):
    """A user's subclass: its forward is code that a file cannot hold."""


class CallsForeign(nn.Module):
    def __init__(self):
        super().__init__()
        self.act = Foreign()

    def forward(self, x):
        return self.act(x)


def traced_with(target) -> fx.GraphModule:
    drawn = fx.Graph()
    x = drawn.placeholder("x")
    drawn.output(drawn.call_function(target, (x,)) if callable(target) else drawn.call_method(target, (x,)))
    return fx.GraphModule(nn.Module(), drawn)


class Leafy(fx.Tracer):
    def is_leaf_module(self, module, path):
        return isinstance(module, Foreign)


def test_what_cannot_be_written_is_named_and_pt2_suggested(tmp_path):
    foreign = CallsForeign()
    foreign = fx.GraphModule(foreign, Leafy().trace(foreign))
    changed = fx.symbolic_trace(nn.Sequential(nn.Conv2d(2, 2, 3)))
    changed.get_submodule("0").weight = nn.Parameter(torch.zeros(2, 2, 5, 5))
    cases = [
        (foreign, "'act' is a .*Foreign"),
        (traced_with(torch.load), "calls .*load"),
        (traced_with(lambda x: x), "lambda"),
        (traced_with("backward"), "'backward'"),
        (changed, "changed after its construction"),
    ]
    for network, message in cases:
        with pytest.raises(RepFoldError, match=message) as caught:
            repfold.save(network, tmp_path / "net.safetensors")
        assert ".pt2" in str(caught.value)


PLAIN = {
    "nodes": [
        {"name": "x", "op": "placeholder", "target": "x", "args": [], "kwargs": {}},
        {"name": "act", "op": "call_module", "target": "act", "args": [{"node": "x"}], "kwargs": {}},
        {"name": "flat", "op": "call_function", "target": "torch.flatten", "args": [{"node": "act"}, 1], "kwargs": {}},
        {"name": "output", "op": "output", "target": "output", "args": [{"node": "flat"}], "kwargs": {}},
    ],
    "modules": {"act": {"class": "ReLU", "arguments": {"inplace": False}}},
    "attributes": {},
}


def test_the_plain_graph_that_the_hostile_ones_are_made_of_is_good():
    network = graph.from_json(copy.deepcopy(PLAIN), {})
    assert torch.equal(network(torch.tensor([[[-1.0, 2.0]]])), torch.tensor([[0.0, 2.0]]))


def put(*keys_and_value):
    *keys, value = keys_and_value

    def edit(content):
        place = content
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return edit


CODE = "__import__('os').system('true')"
HOSTILE = {
    "function outside the table": put("nodes", 2, "target", "torch.load"),
    "os.system": put("nodes", 2, "target", "os.system"),
    "eval": put("nodes", 2, "target", "builtins.eval"),
    "private function": put("nodes", 2, "target", "torch._C._jit_set_profiling_mode"),
    "method outside the table": put("nodes", 2, {**PLAIN["nodes"][2], "op": "call_method", "target": "register_hook"}),
    "method that is code": put("nodes", 2, {**PLAIN["nodes"][2], "op": "call_method", "target": f"sum() or {CODE}"}),
    "reading private attributes": put(
        "nodes",
        2,
        {**PLAIN["nodes"][2], "target": "builtins.getattr", "args": [{"node": "act"}, "__class__"]},
    ),
    "reading attributes with a default": put(
        "nodes",
        2,
        {**PLAIN["nodes"][2], "target": "builtins.getattr", "args": [{"node": "act"}, "shape", 1]},
    ),
    "code as node name": put("nodes", 1, "name", f"a = {CODE}"),
    "keyword as node name": put("nodes", 1, "name", "import"),
    "code as input name": put("nodes", 0, "target", f"x={CODE}"),
    "code as keyword": put("nodes", 2, "kwargs", {f"end_dim={CODE}, start_dim": 1}),
    "code as dict key": put("nodes", 3, "args", [{"dict": {f"a': {CODE}, 'b": 1}}]),
    "code as device": put("nodes", 2, "args", [{"device": CODE}]),
    "code as dtype": put("nodes", 2, "args", [{"dtype": "load"}]),
    "unknown kind of value": put("nodes", 2, "args", [{"object": "x"}]),
    "use before definition": put("nodes", 1, "args", [{"node": "flat"}]),
    "unknown op": put("nodes", 1, "op", "call"),
    "layer that is not there": put("nodes", 1, "target", "nothing"),
    "class outside torch.nn": put("modules", "act", "class", "Sequential"),
    "class with code": put("modules", "act", "class", "Module"),
    "unknown argument": put("modules", "act", "arguments", {"weight": 1}),
    "argument of a wrong type": put("modules", "act", {"class": "Conv2d", "arguments": {"in_channels": "many"}}),
    "path that shadows forward": put("modules", "forward", {"class": "ReLU", "arguments": {}}),
    "path that shadows a dunder": put("modules", "a.__class__", {"class": "ReLU", "arguments": {}}),
    "path with code": put("modules", "a b", {"class": "ReLU", "arguments": {}}),
    "attribute without tensor": put("attributes", "scale", "parameter"),
    "nodes that are no list": put("nodes", 3),
    "modules that are no object": put("modules", [1]),
    "no attributes": lambda content: content.pop("attributes"),
    "two nodes of one name": put("nodes", 1, "name", "x"),
    "no output": lambda content: content["nodes"].pop(),
    "a string": put("nodes", "nodes"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_graph_is_refused(attack, monkeypatch):
    ran = []
    monkeypatch.setattr("os.system", lambda command: ran.append(command))
    content = copy.deepcopy(PLAIN)
    HOSTILE[attack](content)
    with pytest.raises(RepFoldError):
        graph.from_json(content, {})(torch.ones(1, 1, 2))
    assert not ran


def test_a_graph_that_asks_for_absurd_sizes_takes_no_memory():
    content = copy.deepcopy(PLAIN)
    sizes = {"in_channels": 10**6, "out_channels": 10**6, "kernel_size": 99}
    content["modules"]["act"] = {"class": "Conv2d", "arguments": sizes}
    network = graph.from_json(content, {})
    assert network.act.weight.is_meta  # whether a tensor of that size is in the file shows before anything is read


def test_deep_nesting_is_refused():
    content = copy.deepcopy(PLAIN)
    value = 1
    for _ in range(50_000):
        value = [value]
    content["nodes"][2]["args"] = [value]
    with pytest.raises(RepFoldError, match="malformed"):
        graph.from_json(content, {})
