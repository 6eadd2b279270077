"""A graph's module is an ordinary one: the same function, layers, names, gradients and state, on any size."""

import collections
import copy
import dataclasses
import functools
import io
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from repfold.errors import RepFoldError
from repfold.graph.graph import Graph, Value, map_argument
from repfold.graph.interpret import execute
from repfold.graph.module import GraphNetwork, to_module
from repfold.graph.operators import RESIZES
from repfold.graph.record import Recorded, record
from repfold.graph.sizes import Expression, size_of


class Written(nn.Module):
    """A forward given as a function of the module and its arguments."""

    def __init__(self, call, **parts) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            elif isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *arguments: Any) -> Any:
        return self.call(self, *arguments)


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2) if name.endswith("running_var") else tensor.normal_(0, 0.5)
    return network.double().eval()


def back(network: nn.Module, *arguments: Any, home: nn.Module | None = None) -> GraphNetwork:
    """The network recorded and written as a module again, of tensors of its own."""
    recorded = record(network, arguments)
    memo: dict[int, Any] = {}
    state = recorded.state if home else {path: copy.deepcopy(tensor, memo) for path, tensor in recorded.state.items()}
    module = to_module(
        recorded.graph, state, arguments=recorded.arguments, output=recorded.output, copy=recorded.copy, home=home
    )
    assert {value["path"] for value in module.repfold_graph.state} <= module.state_dict().keys()
    return module


def image(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def same(a: Any, b: Any) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def agrees(network: nn.Module, *shapes: tuple[int, ...]) -> GraphNetwork:
    """The way there and back on the first shape keeps the function on all."""
    network = randomised(network)
    module = back(network, image(*shapes[0]))
    for shape in shapes:
        x = image(*shape)
        same(module(x.clone()), network(x))
    return module


SIZES = ((2, 4, 12, 12), (3, 4, 10, 14), (1, 4, 16, 8))


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(collections.OrderedDict((f"part{i}", layer) for i, layer in enumerate(layers)))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, 2, (1, 2), groups=2),
        nn.Conv2d(4, 6, (1, 3), dilation=2, bias=False),
        nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2),
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.InstanceNorm2d(4),
        nn.PReLU(4),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.AdaptiveAvgPool2d((3, 2)),
        nn.PixelShuffle(2),
        nn.PixelUnshuffle(2),
        nn.ChannelShuffle(2),
        nn.ReflectionPad2d(2),
        nn.Softmax(1),
    ],
    ids=repr,
)
def test_layers_of_images(layer):
    layer = copy.deepcopy(layer)
    module = agrees(sequence(nn.Identity(), layer, nn.Sigmoid()), *SIZES)
    assert module.state_dict().keys() == {f"part1.{name}" for name in layer.state_dict()}
    if layer.state_dict() and getattr(layer, "padding_mode", "zeros") == "zeros":
        assert type(module.part1) is type(layer)
        assert repr(module.part1) == repr(layer)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_layers_of_other_dimensions(axes):
    conv, norm = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1], (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[axes - 1]
    turned = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
    network = sequence(conv(3, 4, 3), norm(4), nn.ReLU(), turned(4, 2, 2, 2))
    module = agrees(network, (2, 3, *[7] * axes), (1, 3, *[9] * axes))
    assert [type(part) for part in module.children()] == [conv, norm, turned]


def test_layers_of_rows():
    network = sequence(nn.Linear(5, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3, bias=False))
    module = agrees(network, (2, 7, 5), (3, 7, 5))
    assert [repr(part) for part in module.children()] == [repr(p) for p in network if not isinstance(p, nn.GELU)]


def test_embedding():
    network = randomised(sequence(nn.Embedding(9, 4, padding_idx=2), nn.Linear(4, 3)))
    module = back(network, torch.zeros(2, 5, dtype=torch.long))
    words = torch.randint(9, (3, 5))
    same(module(words), network(words))
    assert repr(module.part0) == repr(network.part0)


def _attention(m, x):
    b, c, h, w = x.shape
    q, k, v = m.qkv(x).reshape(b, 3, 2, c // 2, h * w).transpose(-1, -2).unbind(1)
    y = F.scaled_dot_product_attention(q, k, v) + (q @ k.transpose(-2, -1) * (h * w) ** -0.5).softmax(-1) @ v
    return y.transpose(-1, -2).reshape(b, c, h, w)


def _positions(m, x):
    rows = torch.arange(x.shape[2], dtype=x.dtype, device=x.device)[None, :].expand(x.shape[0], -1)
    return torch.cat([x.mean(3).mean(1) + rows, torch.ones(x.shape[0], x.shape[3], dtype=x.dtype)], 1).flatten(1)


def _windows(m, x):
    b, c, h, w = x.shape
    parts = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 2, 2)
    return m.conv(F.pad(parts, (1, 1, 1, 1))).sum((2, 3)).view(b, -1)


@pytest.mark.parametrize(
    "network",
    [
        Written(_attention, qkv=nn.Conv2d(4, 12, 1)),
        Written(_positions),
        Written(_windows, conv=nn.Conv2d(4, 5, 3, 2, 1)),
        Written(lambda m, x: x[:, 1:3, ::2, 1:-1].flip(2)[..., -1].clamp(-0.5, 0.5) ** 2),
        Written(lambda m, x: torch.stack([x[:, 0].amax(1), x.std((1, 2))], 1).flatten(1)),
        Written(lambda m, x: x.view(-1, 2, x.shape[2], x.shape[3]).mean(1)),
    ],
    ids=["attention", "positions", "windows", "slices", "torch", "batch"],
)
def test_batch_and_image_size_stay_free(network):
    agrees(network, *SIZES)


@pytest.mark.parametrize("mode", sorted({mode for mode, axes in RESIZES if axes == 2}))
@pytest.mark.parametrize("scale", [None, (2.0, 2.0), (1.6, 2.0)])
def test_resizes(mode, scale):
    """To the size of another value, and by factors."""
    batch, height, width = (size_of(0, axis) for axis in (0, 2, 3))
    x = Value("input", {"index": 0}, (batch, 4, height, width), torch.float64, "x")
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
    halves = tuple(Expression("//", (size, 2)) for size in (height, width))
    small = Value("max_pool", {"x": x, **pool}, (batch, 4, *halves), x.dtype, "small")
    size = (
        (height, width)
        if scale is None
        else tuple(
            Expression("*", (2, half)) if factor == 2 else Expression("int", (Expression("*", (half, factor)),))
            for half, factor in zip(halves, scale)
        )
    )
    arguments = {"x": small, "size": size, "mode": mode, "align_corners": False, "scale": scale}
    large = Value("resize", arguments, (batch, 4, *size), x.dtype, "large")
    values, outputs = (x, small, large), (large,)
    if scale is None:
        outputs = (Value("add", {"x": x, "other": large}, x.shape, x.dtype, "sum"),)
        values += outputs
    graph = Graph((x,), values, outputs, sizes={(0, axis): n for axis, n in enumerate(SIZES[0])})
    module = to_module(graph, {}, arguments=(x,), output=outputs)
    assert ("interpolate" in module.code) == (scale != (1.6, 2.0))
    for shape in SIZES:
        x = image(*shape)
        torch.testing.assert_close(module(x), tuple(execute(graph, (x,), {})), rtol=0, atol=0)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Named:
    logits: Any
    size: Any = None


class Outputs(collections.OrderedDict):
    pass


def test_containers():
    def forward(m, pair, state, flag, *rest):
        x, (y, z) = pair.first, state["images"]
        x = m.conv(x) if flag else x
        named = Named(x + state["more"].logits, x.shape[2])
        return named, Outputs(a=[x * y, None], b={"z": z > 0}), Pair(x.shape[0] * 2, (flag, "words"))

    network = randomised(Written(forward, conv=nn.Conv2d(4, 4, 1)))

    def call(*shape: int) -> tuple[Any, ...]:
        return (
            Pair(image(*shape), None),
            {"images": [image(*shape), image(*shape)], "more": Named(image(*shape), 3)},
            True,
        )

    module = back(network, *call(2, 4, 6, 6))
    arguments = call(3, 4, 8, 5)
    named, outputs, pair = module(*arguments)
    wanted = network(*arguments)
    assert (type(named), type(outputs), type(pair)) == (Named, Outputs, Pair)
    same(
        [named.logits, *outputs["a"][:1], outputs["b"]["z"]],
        [wanted[0].logits, *wanted[1]["a"][:1], wanted[1]["b"]["z"]],
    )
    assert (named.size, pair, outputs["a"][1]) == (8, Pair(6, (True, "words")), None)
    with pytest.raises(RepFoldError, match=r"x2 is False; the network was recorded with True"):
        module(*arguments[:2], False)
    with pytest.raises(RepFoldError, match=r"len\(x1\['images'\]\) is 3"):
        module(arguments[0], {**arguments[1], "images": [image(3, 4, 8, 5)] * 3}, True)


def test_it_says_which_sizes_it_holds_for():
    network = randomised(Written(lambda m, x: m.conv(x) if x.shape[2] > 8 else x, conv=nn.Conv2d(4, 4, 1)))
    module = back(network, image(2, 4, 12, 12))
    module(image(1, 4, 9, 3))
    with pytest.raises(
        RepFoldError, match=r"called with x \[2, 4, 8, 12\].*where x\.size\(2\) > 8: its forward decides by it"
    ):
        module(image(2, 4, 8, 12))
    with pytest.raises(RepFoldError, match=r"where x\.size\(1\) == 4: its forward fixes"):
        module(image(2, 5, 12, 12))
    with pytest.raises(RepFoldError, match="x has 3 axes"):
        module(image(4, 12, 12))
    with pytest.raises(RepFoldError, match="takes a tensor"):
        module(None)


class Trained(nn.Module):
    """What only shows when it is trained: shared and frozen weights, statistics, dropout, gradients that stop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.average = nn.BatchNorm2d(4, momentum=None)
        self.drop = nn.Dropout2d(0.3)
        self.frozen = nn.Conv2d(4, 4, 1)
        self.frozen.requires_grad_(False)
        self.scale = nn.Parameter(torch.randn(4, 1, 1))
        self.head = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        y = F.relu(self.norm(self.conv(y)) + y)
        y = self.drop(self.average(F.conv2d(y, self.conv.weight, stride=2)))
        with torch.no_grad():
            self.seen.mul_(0.5).add_(y.mean())
            gate = torch.sigmoid(self.frozen(y))
        y = F.leaky_relu(y * gate * self.scale + self.frozen(y))
        return self.head(F.dropout(y.mean((2, 3)), 0.2, self.training)) * self.seen


@pytest.mark.parametrize("recorded_in_training", [False, True])
def test_training_goes_on_as_the_original_does(recorded_in_training):
    network = randomised(Trained())
    network.train(recorded_in_training)
    module = back(network, image(2, 4, 8, 8))
    assert module.norm.training == module.drop.training == recorded_in_training
    assert module.state_dict().keys() == network.state_dict().keys()
    for mode in (True, True, False):
        x = image(2, 4, 8, 8)
        results = []
        for trained in (network.train(mode), module.train(mode)):
            torch.manual_seed(1)
            trained.zero_grad()
            trained(x).square().sum().backward()
            results.append({name: parameter.grad for name, parameter in trained.named_parameters()})
        if mode or not recorded_in_training:  # a forward that was recorded in training writes to `seen` always
            same(results[1], results[0])
        assert {name for name, p in module.named_parameters() if not p.requires_grad} == {
            "frozen.weight",
            "frozen.bias",
        }
        same(dict(module.named_buffers()), dict(network.named_buffers()))


def test_a_shared_tensor_stays_one():
    network = sequence(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    network.part2.weight = network.part0.weight
    module = agrees(network, *SIZES)
    module(image(*SIZES[0])).sum().backward()
    assert len(list(module.parameters())) == 3
    called = sequence(nn.Conv2d(4, 4, 1), nn.ReLU())
    called.add_module("again", called.part0)
    assert [name for name, _ in agrees(called, *SIZES).named_parameters()] == ["part0.weight", "part0.bias"]


def test_no_gradient_out_of_no_grad():
    def forward(m, x):
        with torch.no_grad():
            y = m.conv(x)
        return F.relu(y) + m.conv(x), y

    module = back(randomised(Written(forward, conv=nn.Conv2d(4, 4, 1))), image(2, 4, 6, 6))
    x = image(2, 4, 6, 6)
    both, alone = module(x)
    assert both.requires_grad and not alone.requires_grad
    both.sum().backward()
    same(module.conv.bias.grad, torch.full((4,), 72.0, dtype=torch.float64))


def test_buffers_are_written_last():
    def forward(m, x):
        old = m.queue.clone()
        m.queue.copy_(torch.cat([x.detach()[:, 0, 0], m.queue[:-2]]))
        m.count += 1
        return old, m.queue.flip(0), x * m.count

    network = Written(forward, queue=torch.randn(6, 5), count=torch.zeros(()))
    module = back(network.double(), image(2, 4, 3, 5))
    for _ in range(3):
        x = image(2, 4, 3, 5)
        same(module(x), network(x))
        same(dict(module.named_buffers()), dict(network.named_buffers()))


@functools.cache
def _activated_everywhere() -> Recorded:
    """An activation after each operator whose result may be written to, and after its sum with another."""

    def forward(m, x):
        y = F.relu(m.norm(x)) + F.relu(m.conv(x))
        z = F.relu(m.norm(y) + y) + F.relu(x * y) + F.relu(torch.cat([x[:, :2], y[:, 2:]], 1))
        return (
            F.relu(z - y) + F.relu(m.linear(z).sin()) + F.avg_pool2d(F.relu(F.avg_pool2d(z, 1)), 1) + F.relu(m.group(x))
        )

    parts = {
        "conv": nn.Conv2d(4, 4, 1),
        "norm": nn.BatchNorm2d(4),
        "linear": nn.Linear(5, 5),
        "group": nn.GroupNorm(2, 4),
    }
    return record(randomised(Written(forward, **parts)), (image(2, 4, 5, 5),))


@pytest.mark.parametrize(
    ("op", "numbers", "writes"),
    [
        ("relu", {}, True),
        ("clamp", {"low": 0.0, "high": 6.0}, True),
        ("clamp", {"low": -0.5, "high": None}, False),
        ("silu", {}, True),
        ("hardswish", {}, True),
        ("hardsigmoid", {}, True),
        ("mish", {}, True),
        ("leaky_relu", {"slope": 0.1}, True),
        ("leaky_relu", {"slope": -0.2}, False),
        ("elu", {"alpha": 1.0}, True),
        ("elu", {"alpha": -0.5}, False),
        ("softplus", {"beta": 2.0, "threshold": 20.0}, False),
        ("gelu", {"approximate": "tanh"}, False),
        ("tanh", {}, False),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_gradients_through_what_runs_in_place(op, numbers, writes, training):
    """They are those of the plain reference, which writes to nothing."""
    recorded = _activated_everywhere()
    twins: dict[Value, Value] = {}
    for value in recorded.graph.values:
        arguments = {name: map_argument(argument, twins.__getitem__) for name, argument in value.arguments.items()}
        arguments |= {"training": training} if value.op == "batch_norm" else numbers if value.op == "relu" else {}
        twins[value] = dataclasses.replace(value, op=op if value.op == "relu" else value.op, arguments=arguments)
    graph = Graph(
        tuple(twins[x] for x in recorded.graph.inputs), tuple(twins.values()), (twins[recorded.graph.outputs[0]],)
    )
    x, found = image(2, 4, 5, 5), []
    for in_place in (False, True):
        state, leaf = copy.deepcopy(recorded.state), x.clone().requires_grad_()
        module = to_module(graph, state, arguments=graph.inputs, output=graph.outputs[0])
        y = module(leaf) if in_place else execute(graph, (leaf,), state)[0]
        y.square().sum().backward()
        found.append((leaf.grad, {path: tensor.grad for path, tensor in state.items()}))
    same(found[1], found[0])
    assert ("inplace" in module.code) == writes


def test_what_is_read_twice_is_not_written_to():
    network = Written(lambda m, x: (y := m.conv(x), F.relu(y), m.conv(x) + y), conv=nn.Conv2d(4, 4, 1))
    assert "inplace" not in agrees(network, *SIZES).code
    assert "inplace" not in agrees(Written(lambda m, x: F.relu(x)), *SIZES).code


@pytest.mark.parametrize(
    "layer", [nn.Linear(4, 5), nn.Conv2d(4, 5, 3), nn.LayerNorm(4)], ids=lambda x: type(x).__name__
)
def test_a_bias_that_is_added_without_its_layer(layer):
    apply = {
        nn.Linear: lambda m, x: F.linear(x.mean((2, 3)), m.part.weight) + m.part.bias * 2,
        nn.Conv2d: lambda m, x: F.conv2d(x, m.part.weight) + m.part.bias[:, None, None],
        nn.LayerNorm: lambda m, x: F.layer_norm(x.mean((2, 3)), (4,), m.part.weight) + m.part.bias,
    }
    agrees(Written(apply[type(layer)], part=layer), *SIZES)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_linear_layer_of_a_vector(batch):
    """What is left where the axes of one are removed from one image, whose batch is then fixed."""
    network = Written(lambda m, x: m.head(F.adaptive_avg_pool2d(x, 1).squeeze()), head=nn.Linear(4, 5))
    agrees(network, (batch, 4, 12, 12))


IN_PLACE = {
    "relu6": lambda y: F.relu6(y + 3, inplace=True) / 6 * y,
    "relu6, its argument": lambda y: (F.relu6(y, True), y)[1],
    "selu": lambda y: nn.SELU(inplace=True)(y),
    "selu_": lambda y: torch.selu_(y),
    "rrelu": lambda y: F.rrelu(y, inplace=True),
    "rrelu, random": lambda y: F.rrelu(y, 0.1, 0.3),
    **{name: lambda y, name=name: getattr(y, name)() for name in ("absolute_", "arctan_", "fix_", "square_")},
    **{name: lambda y, name=name: getattr(y, name)(y + 2) for name in ("multiply_", "subtract_", "true_divide_")},
    "a part": lambda y: (y[:, 1:].multiply_(3), y)[1],
    "divide_": lambda y: y.divide_(3, rounding_mode="floor"),
    "clip_": lambda y: torch.clip_(y.clip_(-1, 1), max=0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_writes_to_its_argument(name):
    agrees(Written(lambda m, x: IN_PLACE[name](m.conv(x)), conv=nn.Conv2d(4, 4, 1)), *SIZES)


@pytest.mark.parametrize("name", ["code", "graph", "meta", "recompile", "repfold_graph"])
def test_names_that_torch_fx_has_itself(name):
    inner = nn.Sequential(collections.OrderedDict([(name, nn.Conv2d(4, 4, 1)), ("act", nn.PReLU())]))
    network = nn.Sequential(collections.OrderedDict([(name, inner), (f"{name}_", nn.Conv2d(4, 2, 1))]))
    module = agrees(network, *SIZES)
    assert f"{name}_.weight" in module.state_dict()
    assert f"{name}__.act.weight" in module.state_dict()


def test_a_layer_with_layers_inside():
    class Norm(nn.BatchNorm2d):
        def __init__(self, channels: int) -> None:
            super().__init__(channels)
            self.drop = nn.Dropout(0.1)
            self.act = nn.PReLU(channels)

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.drop(super().forward(x)))

    module = agrees(sequence(nn.Conv2d(4, 4, 1), Norm(4)), *SIZES)
    assert type(module.part1) is nn.BatchNorm2d
    assert type(module.part1.act) is nn.PReLU
    assert type(module.part1.drop) is nn.Dropout


def test_copies_and_files():
    module = back(randomised(Trained()), image(2, 4, 8, 8))
    module.norm.train()
    x = image(3, 4, 12, 8)
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    wanted = copy.deepcopy(module)(x)
    for twin in (copy.deepcopy(module), copy.deepcopy(copy.deepcopy(module)), torch.load(buffer, weights_only=False)):
        assert type(twin).__name__ == "Folded"
        assert twin.norm.training and not twin.drop.training
        assert len(twin.repfold_graph.values) == len(module.repfold_graph.values)
        assert twin.conv.weight is not module.conv.weight
        assert twin.state_dict().keys() == module.state_dict().keys()
        same(twin(x), wanted)
    fresh = back(Trained().double().eval(), image(2, 4, 8, 8))
    fresh.load_state_dict(module.state_dict())
    same(fresh(x), module.eval()(x))


def test_export_and_compile_with_free_sizes():
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, 2, 1)
            self.qkv = nn.Conv2d(4, 12, 1)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(F.relu(_attention(self, x)))
            y = y[:, :, :, None].expand(-1, -1, -1, x.shape[0], -1).flatten(2)[:, :, :, None]
            return self.head(F.relu(y).mean((2, 3)).flatten(1))

    network = randomised(Head())
    module = back(network, image(2, 4, 8, 8))
    batch, height, width = (torch.export.Dim(name, min=4, max=64) for name in ("batch", "height", "width"))
    program = torch.export.export(
        module, (image(5, 4, 12, 10),), dynamic_shapes=({0: batch, 2: height, 3: width},), strict=False
    )
    compiled = torch.compile(module, backend="eager", dynamic=True, fullgraph=True)
    for shape in ((4, 4, 6, 9), (5, 4, 16, 12)):
        x = image(*shape)
        same(program.module()(x), network(x))
        same(compiled(x), network(x))


def test_a_live_networks_own_layers_are_called():
    network = randomised(Trained()).train()
    module = back(network, image(2, 4, 8, 8), home=network)
    assert module.conv is network.conv and module.norm is network.norm and module.drop is network.drop
    assert module.scale is network.scale and module.seen is network.seen
    assert module.training
    module(image(2, 4, 8, 8)).sum().backward()
    assert network.scale.grad is not None
    assert network.norm.num_batches_tracked == 2


def test_constants_are_state():
    table = torch.randn(4, 1, 1, dtype=torch.float64)
    module = agrees(Written(lambda m, x: x * table), *SIZES)
    assert list(module.state_dict()) == ["constant0"]


def test_a_tensor_made_of_nothing_is_where_the_input_is():
    module = back(randomised(Written(_positions)), image(*SIZES[0])).to("meta")
    assert module(image(*SIZES[1]).to("meta")).device.type == "meta"


def test_dropout_that_is_always_on_stays_on():
    module = back(randomised(Written(lambda m, x: F.dropout(x, 0.5))), image(2, 4, 6, 6))
    assert (module.eval()(image(2, 4, 6, 6)) == 0).any()


def test_arguments_left_at_their_defaults():
    x = Value("input", {"index": 0}, (2, 3, 4, 4), torch.float32, "x")
    weight = Value("state", {"path": "conv.weight"}, (5, 3, 1, 1), torch.float32, "weight")
    conv = Value("conv", {"x": x, "weight": weight}, (2, 5, 4, 4), torch.float32, "conv")
    graph = Graph((x,), (x, weight, conv), (conv,))
    module = to_module(graph, {"conv.weight": nn.Parameter(torch.randn(5, 3, 1, 1))}, arguments=(x,), output=conv)
    assert repr(module.conv) == repr(nn.Conv2d(3, 5, 1, bias=False))
    given = torch.randn(2, 3, 4, 4)
    same(module(given), module.conv(given))


def test_a_value_is_no_sequence():
    """A library's container of named outputs looks whether its first field can be iterated."""
    value = Value("relu", {}, (), torch.float32, "relu")
    with pytest.raises(TypeError, match="not iterable"):
        iter(value)
