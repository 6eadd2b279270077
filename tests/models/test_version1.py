"""Files of version 1 still load, and no hostile one gets to run anything."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import repfold
from repfold import models
from repfold.errors import RepFoldError
from repfold.models import version1

FILE = Path(__file__).parent / "data" / "version1.safetensors"  # a fold that RepFold wrote before version 2

LOGITS = torch.tensor(
    [[0.154283, 0.030768, 0.011380, -0.205119, 0.491658], [0.163162, 0.040620, 0.014316, -0.201014, 0.452310]]
)


def test_a_file_of_version_1_computes_what_it_did():
    model = models.load_model(FILE)
    x = torch.linspace(-1, 1, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    output = model.network(x)
    assert torch.allclose(output["logits"], LOGITS, atol=2e-6)
    assert output["size"][0] == 8 and torch.allclose(output["size"][1], torch.tensor([5.928740, 5.661816]).double())
    assert model.description.classes == tuple("abcde") and model.description.form == "folded"
    assert isinstance(model.network.norm, nn.BatchNorm2d)


def test_it_is_saved_again_as_version_2(tmp_path):
    old = models.load_model(FILE)
    repfold.save(old.network, tmp_path / "new.safetensors", description=old.description)
    new = models.load_model(tmp_path / "new.safetensors")
    x = torch.randn(3, 3, 20, 12)
    assert torch.equal(new.network(x)["logits"], old.network(x)["logits"])
    assert new.description == old.description
    assert new.network.state_dict().keys() == old.network.state_dict().keys()


def test_every_class_of_the_vocabulary_is_in_torch():
    assert [name for name in version1.CLASSES if not hasattr(nn, name)] == []


def test_every_function_of_the_vocabulary_is_in_torch():
    named = {f"{module}.{name}" for module, names in version1.FUNCTIONS.items() for name in names.split()}
    assert named - version1.functions().keys() == set()
    assert [name for name in version1.METHODS if not hasattr(torch.Tensor, name)] == []


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
    network = version1.read(copy.deepcopy(PLAIN), {})
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
CALL = {"name": "flat", "op": "call_function", "kwargs": {}}

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
    "a power without end": put("nodes", 2, {**CALL, "target": "operator.pow", "args": [10, 10**9]}),
    "a power in place": put("nodes", 2, {**CALL, "target": "operator.ipow", "args": [10, 10**9]}),
    "a shift without end": put("nodes", 2, {**CALL, "target": "operator.lshift", "args": [1, 10**12]}),
    "a tuple that fills the memory": put("nodes", 2, {**CALL, "target": "operator.mul", "args": [[1], 10**12]}),
    "a number of a million digits": put("nodes", 2, {**CALL, "target": "operator.mul", "args": [10**999, 10**999]}),
    "a tensor that fills the memory": put("nodes", 2, {**CALL, "target": "torch.ones", "args": [[2**20, 2**20]]}),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_graph_is_refused(attack, monkeypatch):
    ran = []
    monkeypatch.setattr("os.system", lambda command: ran.append(command))
    content = copy.deepcopy(PLAIN)
    HOSTILE[attack](content)
    with pytest.raises(RepFoldError):
        version1.read(content, {})(torch.ones(1, 1, 2))
    assert not ran


def test_a_graph_that_asks_for_absurd_sizes_takes_no_memory():
    content = copy.deepcopy(PLAIN)
    sizes = {"in_channels": 10**6, "out_channels": 10**6, "kernel_size": 99}
    content["modules"]["act"] = {"class": "Conv2d", "arguments": sizes}
    network = version1.read(content, {})
    assert network.act.weight.is_meta  # whether a tensor of that size is in the file shows before anything is read


def test_deep_nesting_is_refused():
    content = copy.deepcopy(PLAIN)
    value = 1
    for _ in range(50_000):
        value = [value]
    content["nodes"][2]["args"] = [value]
    with pytest.raises(RepFoldError, match="malformed"):
        version1.read(content, {})
