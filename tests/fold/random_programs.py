"""Random networks as people write them: views, writes in place, casts, shared parts, several inputs and outputs.

A program is drawn once from a seed and then fixed. Every step is a function of the network and of earlier values, and
may write to them; what it returns joins the values. A step that the drawn shapes do not allow is not taken. Programs
are functions of their input: nothing random, and no label, bool or truncation that rounding decides.

Of the first 2,000 programs (6.5 steps each), per cent that hold: a convolution 77, another one beside it 21, a norm 68,
a write to an alias 32, another write 36, an alias 35, a sum 30, a scale 27, a cast of a constant 13, a cast of a value
8, Python on sizes 21, a module called twice 13, a weight of two modules 5, a mask 8, two or three inputs 40, two
outputs 62 (in one of seven containers), labels 12, bools 15, complex values 16, plain integers 16.
"""

from __future__ import annotations

import operator
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tests.fold.users_patterns import ALIASES, ALIASING_MODULES, CONTAINERS, WRITES, AssertingNorm, private
from torch import Tensor, nn
from torch.nn import functional as F

MARGIN = 1e-6  # how near to a decision a value may come


@dataclass(frozen=True)
class Step:
    kind: str
    operands: tuple[int, ...]
    call: Callable[..., Tensor]  # of the network and the operands' values


class Program(nn.Module):
    """Runs its steps over a pool of values."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.outputs: tuple[tuple[str, int], ...] = ()
        self.container = "tuple"

    def pool(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        values = list(inputs)
        for step in self.steps:
            values.append(step.call(self, *(values[i] for i in step.operands)))
        return values

    def run(self, *inputs: Tensor) -> Any:
        values = self.pool(inputs)
        found = [CONTENTS[content](values[i]) for content, i in self.outputs]
        return found[0] if len(found) == 1 else CONTAINERS[self.container](*found)


class OfOne(Program):
    def forward(self, x: Tensor) -> Any:
        return self.run(x)


class OfTwo(Program):
    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.run(x, y)


class OfThree(Program):
    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Any:
        return self.run(x, y, z)


CONTENTS: dict[str, Callable[[Tensor], Any]] = {
    "float": lambda v: v,
    "labels": lambda v: v.argmax(1),
    "bools": lambda v: v > 0.1,
    "complex": lambda v: torch.complex(v, v * 0.5),
    "size": lambda v: v.shape[1],
}


class Drawing:
    """The state of a draw: the program so far and its values on the example."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        inputs = self.random.choice([1, 1, 1, 2, 3])
        self.program: Program = (OfOne, OfTwo, OfThree)[inputs - 1]()
        self.dimensions = self.random.choice([1, 2, 2, 2])
        channels = self.random.choice([2, 4])
        size = [self.random.randint(6, 8) for _ in range(self.dimensions)]
        self.example = tuple(torch.randn(2, channels, *size, dtype=torch.float64) for _ in range(inputs))
        self.values = list(private(self.example))
        self.is_lossy = False

    def extend(self, kind: str) -> None:
        count, build = STEPS[kind][1:]
        operands = tuple(self._recent() for _ in range(count))
        last = self.program.steps[-1].kind if self.program.steps else ""
        if "conv" in last and self.random.random() < 0.3:  # what people write after a convolution
            count, build = STEPS[kind := "norm"][1:]
            operands = (len(self.values) - 1,)
        before = set(self._parts())
        call = build(self, *(self.values[i] for i in operands))
        if call is None or not self._take(Step(kind, operands, call)):
            for name in set(self._parts()) - before:
                delattr(self.program, name)

    def _take(self, step: Step) -> bool:
        """Run the step; where it cannot run or leaves nothing fit to go on with, undo what it wrote."""
        try:
            with torch.no_grad():
                value = step.call(self.program, *(self.values[i] for i in step.operands))
                fits = all(map(is_fit, [*self.values, value]))
        except (RuntimeError, ValueError, IndexError, TypeError):
            fits = False
        if fits:
            self.program.steps.append(step)
            self.values.append(value)
        else:
            with torch.no_grad():
                self.values = self.program.pool(private(self.example))
        return fits

    def _parts(self) -> list[str]:
        program = self.program
        return [*program._modules, *program._parameters, *program._buffers]

    def _recent(self) -> int:
        places = range(len(self.values))
        return self.random.choice(places[-3:] if self.random.random() < 0.8 else places)

    def add(self, part: nn.Module | Tensor) -> str:
        """Hold a module, parameter or buffer; return its name."""
        name = f"part{len(self._parts())}"
        while name in self._parts():
            name += "_"
        if isinstance(part, nn.Module):
            randomise(part.double().eval())
            self.program.add_module(name, part)
        elif isinstance(part, nn.Parameter):
            self.program.register_parameter(name, part)
        else:
            self.program.register_buffer(name, part)
        return name

    def finish(self) -> None:
        count = self.random.choice([1, 1, 2, 2, 2])
        places = [len(self.values) - 1, self._recent()][:count]
        self.program.outputs = tuple((self._content(self.values[i]), i) for i in places)
        self.program.container = self.random.choice(list(CONTAINERS))
        self.program.eval()

    def _content(self, value: Tensor) -> str:
        content = self.random.choice(["float"] * 5 + list(CONTENTS))
        if not value.is_floating_point() and content != "size":
            return "float"
        if content == "labels":
            top = value.topk(2, 1).values if value.shape[1] > 1 else value
            return "labels" if value.shape[1] > 1 and bool((top[:, 0] - top[:, 1] > MARGIN).all()) else "float"
        if content == "bools":
            return "bools" if bool(((value - 0.1).abs() > MARGIN).all()) else "float"
        return content


def draw_program(seed: int) -> tuple[Program, tuple[Tensor, ...]]:
    """A network in eval mode and an example of its inputs."""
    drawing = Drawing(seed)
    target = drawing.random.randint(4, 9)
    kinds, weights = list(STEPS), [entry[0] for entry in STEPS.values()]
    for kind in drawing.random.choices(kinds, weights, k=3 * target):
        if len(drawing.program.steps) < target:
            drawing.extend(kind)
    drawing.finish()
    return drawing.program, drawing.example


def features(program: Program) -> Counter[str]:
    """How often each kind of step is taken, and what the program returns."""
    found = Counter(step.kind for step in program.steps)
    found.update(f"output: {content}" for content, _ in program.outputs)
    found.update([f"container: {program.container}"] if len(program.outputs) > 1 else ["container: none"])
    found.update([type(program).__name__])
    return found


def is_fit(value: Tensor) -> bool:
    if not isinstance(value, Tensor) or not 1 < value.dim() < 6 or not 0 < value.numel() < 6000:
        return False
    return not value.is_floating_point() or float(value.abs().max()) < 1e4


def randomise(layer: nn.Module) -> None:
    for name, buffer in layer.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)


def of_image(build: Callable[..., Any]) -> Callable[..., Any]:
    """A builder for values of the inputs' rank alone."""

    def built(d: Drawing, x: Tensor, *rest: Tensor) -> Any:
        return build(d, x, *rest) if x.is_floating_point() and x.dim() == d.dimensions + 2 else None

    return built


def _kind(d: Drawing, *kinds: Any) -> Any:
    return kinds[d.dimensions - 1]


def _module(d: Drawing, module: nn.Module) -> Callable[..., Tensor]:
    name = d.add(module)
    return lambda net, x: getattr(net, name)(x)


# Linear pieces


def _conv(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    draw, inputs = d.random, x.shape[1]
    outputs = draw.choice([inputs, inputs, 2, 4])
    groups = draw.choice([g for g in (1, 1, 2, inputs) if inputs % g == 0 and outputs % g == 0])
    kernel = tuple(draw.choice([1, 1, 2, 3, 3]) for _ in range(d.dimensions))
    same = draw.random() < 0.7
    padding = tuple((k - 1) // 2 for k in kernel) if same else draw.choice([0, 1])
    mode = draw.choice(["zeros"] * 5 + ["reflect", "circular"])
    stride = draw.choice([1, 1, 1, 2])
    kind = _kind(d, nn.Conv1d, nn.Conv2d)
    conv = kind(inputs, outputs, kernel, stride, padding, draw.choice([1, 1, 1, 2]), groups, draw.random() < 0.4, mode)
    if draw.random() < 0.1:
        conv.requires_grad_(False)
    return _module(d, conv)


def _twin(d: Drawing, x: Tensor, y: Tensor) -> Callable[..., Tensor]:
    """A 1x1 convolution that another one of the same source is likely to be added to."""
    call = _module(d, _kind(d, nn.Conv1d, nn.Conv2d)(x.shape[1], y.shape[1], 1, bias=False))
    return lambda net, v, like: call(net, v)


def _functional_conv(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    kernel, kind = d.random.choice([1, 3]), _kind(d, F.conv1d, F.conv2d)
    name = d.add(nn.Parameter(0.5 * torch.randn(2, x.shape[1], *[kernel] * d.dimensions, dtype=torch.float64)))
    if d.random.random() < 0.3:  # a weight that is computed at every call
        return lambda net, v: kind(v, getattr(net, name) / getattr(net, name).norm(), padding=kernel // 2)
    return lambda net, v: kind(v, getattr(net, name), padding=kernel // 2)


def _again(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """A module that was called before."""
    names = [n for n, m in d.program.named_children() if _takes(m, x)]
    name = d.random.choice(names) if names else None
    return None if name is None else lambda net, v: getattr(net, name)(v)


def _takes(module: nn.Module, x: Tensor) -> bool:
    width = getattr(module, "in_channels", getattr(module, "num_features", None))
    return width is None or width == x.shape[1]


def _tied(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """A module of its own with another one's weight."""
    kind = _kind(d, nn.Conv1d, nn.Conv2d)
    others = [m for m in d.program.children() if type(m) is kind and _takes(m, x)]
    if not others:
        return None
    other = d.random.choice(others)
    twin = kind(
        other.in_channels, other.out_channels, other.kernel_size, padding=other.kernel_size[0] // 2,
        groups=other.groups, bias=False,
    )  # fmt: skip
    name = d.add(twin)
    twin.weight = other.weight
    return lambda net, v: getattr(net, name)(v)


def _transposed(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    stride, kernel = d.random.choice([(1, 3), (2, 2), (2, 3)])
    kind = _kind(d, nn.ConvTranspose1d, nn.ConvTranspose2d)
    return _module(d, kind(x.shape[1], 2, kernel, stride, d.random.choice([0, (kernel - 1) // 2])))


def _linear(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """On the last axis of what is no image; on an image's channels, moved there and back."""
    if x.dim() != d.dimensions + 2:
        return _module(d, nn.Linear(x.shape[-1], d.random.choice([2, 4]))) if x.dim() < 4 else None
    name = d.add(nn.Linear(x.shape[1], x.shape[1], d.random.random() < 0.5))
    return lambda net, v: getattr(net, name)(v.movedim(1, -1)).movedim(-1, 1)


def _norm(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    draw = d.random
    if d.dimensions == 2 and draw.random() < 0.2:
        return _module(d, AssertingNorm(x.shape[1]))
    norm = _kind(d, nn.BatchNorm1d, nn.BatchNorm2d)(x.shape[1], affine=draw.random() < 0.7)
    call = _module(d, norm)
    if norm.affine and draw.random() < 0.25:
        name = next(n for n, m in d.program.named_children() if m is norm)
        return lambda net, v: functional_norm(getattr(net, name), v)
    return call


def functional_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _other_norm(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    return _module(d, d.random.choice([nn.GroupNorm(1, x.shape[1]), nn.LayerNorm(x.shape[-1])]))


def _pool(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    draw = d.random
    average = _kind(d, nn.AvgPool1d, nn.AvgPool2d)(2 + draw.choice([0, 1]), draw.choice([1, 2]), draw.choice([0, 1]))
    adaptive = _kind(d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)(draw.choice([1, 3]))
    return _module(d, draw.choice([average, average, _kind(d, nn.MaxPool1d, nn.MaxPool2d)(2, 1), adaptive]))


def _scale(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    shape = d.random.choice([(), (1, x.shape[1], *[1] * d.dimensions), (x.shape[1], *[1] * d.dimensions)])
    name, operation = _constant(d, torch.randn(shape, dtype=torch.float64)), d.random.choice(BINARY)
    return lambda net, v: operation(v, getattr(net, name))


def _constant(d: Drawing, value: Tensor) -> str:
    return d.add(nn.Parameter(value) if d.random.random() < 0.7 else value)


BINARY: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    torch.mul,
    torch.add,
    torch.sub,
    lambda v, f: f - v,
    lambda v, f: torch.add(v, f, alpha=-0.5),
    lambda v, f: v / (2 + f.abs()),
)


def _cast_constant(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    name = _constant(d, 3 * torch.rand(x.shape[1], *[1] * d.dimensions, dtype=torch.float64) + 0.4)
    cast = d.random.choice(CONSTANT_CASTS)
    return lambda net, v: v * cast(getattr(net, name)).to(v.dtype)


CONSTANT_CASTS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda f: f.to(torch.long),
    lambda f: f.half(),
    lambda f: f.float() * 2,
    lambda f: (f * 50).to(torch.uint8) + 180,
    lambda f: (f * 2).int() // 2,
    lambda f: f > 1.5,
    lambda f: f.type(torch.bfloat16),
)


# Everything else


def _activation(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    if not x.is_floating_point():
        return None
    return d.random.choice(ACTIVATIONS) if d.random.random() < 0.7 else _module(d, nn.ReLU(d.random.random() < 0.5))


ACTIVATIONS: tuple[Callable[..., Tensor], ...] = (
    lambda net, v: torch.relu(v),
    lambda net, v: F.silu(v),
    lambda net, v: torch.sigmoid(v) * v,
    lambda net, v: v.clamp(-1, 1),
    lambda net, v: v.tanh(),
    lambda net, v: F.leaky_relu_(v, 0.1),
)


def _sum(d: Drawing, x: Tensor, y: Tensor) -> Callable[..., Tensor] | None:
    if x.shape != y.shape or x.dtype != y.dtype:
        return None
    return d.random.choice(SUMS)


SUMS: tuple[Callable[..., Tensor], ...] = (
    lambda net, a, b: a + b,
    lambda net, a, b: a + b,
    lambda net, a, b: torch.sub(a, b, alpha=2),
    lambda net, a, b: a.add(b.reshape_as(a)),
    lambda net, a, b: a * torch.sigmoid(b),
    lambda net, a, b: torch.stack([a, b]).sum(0),
)


def _cat(d: Drawing, x: Tensor, y: Tensor) -> Callable[..., Tensor] | None:
    fits = x.shape[2:] == y.shape[2:] and x.dtype == y.dtype and x.shape[1] + y.shape[1] <= 8
    return (lambda net, a, b: torch.cat([a, b], 1)) if fits else None


def _alias(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    if d.random.random() < 0.2:
        return _module(d, ALIASING_MODULES[d.random.choice(list(ALIASING_MODULES))]())
    alias = d.random.choice(list(ALIASES))
    return lambda net, v: ALIASES[alias](v)


def _write(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    if not x.is_floating_point():
        return None
    write = d.random.choice(list(WRITES))

    def call(net: nn.Module, v: Tensor) -> Tensor:
        WRITES[write](v)
        return v

    return call


def _write_to_alias(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """Write to an alias and go on with the base."""
    if not x.is_floating_point():
        return None
    write, alias = d.random.choice(list(WRITES)), d.random.choice(list(ALIASES))

    def call(net: nn.Module, v: Tensor) -> Tensor:
        z = ALIASES[alias](v)
        WRITES[write](z)
        return v

    return call


def _add_in_place(d: Drawing, x: Tensor, y: Tensor) -> Callable[..., Tensor] | None:
    if x.shape != y.shape or not (x.is_floating_point() and y.is_floating_point()):
        return None
    return d.random.choice([lambda net, a, b: operator.iadd(a, b), lambda net, a, b: a.mul_(torch.sigmoid(b))])


def _cast(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """There and back. What rounds is drawn once in a program: two roundings can meet in a tie."""
    if not x.is_floating_point() or d.is_lossy:
        return None
    d.is_lossy = True
    cast = d.random.choice(VALUE_CASTS)
    if cast in TRUNCATING:
        scaled = (x * 10).abs()
        if bool(((scaled - scaled.round()).abs() < MARGIN).logical_and(scaled > 0.5).any()):
            return None
    return lambda net, v: cast(v)


TRUNCATING: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda v: (v * 10).to(torch.long).to(v.dtype) / 10,
    lambda v: (v * 10).relu().to(torch.uint8).add(250).to(v.dtype) / 100,
    lambda v: (v * 10).type(torch.int32).double() / 10,
)
VALUE_CASTS: tuple[Callable[[Tensor], Tensor], ...] = (
    *TRUNCATING,
    lambda v: v.half().to(v.dtype),
    lambda v: v.float().type_as(v),
    lambda v: v.to(torch.bfloat16).double(),
)


def _by_size(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    """Python that looks at sizes."""
    return d.random.choice(BY_SIZE)


def _shuffle(v: Tensor) -> Tensor:
    n, c, *size = v.shape
    return v.view(n, 2, c // 2, *size).transpose(1, 2).reshape(n, c, *size)


def _even(v: Tensor) -> Tensor:
    return F.pad(v, (0, 1)) if v.shape[-1] % 2 else v


def _cut(v: Tensor) -> Tensor:
    if v.shape[-1] > 5:
        v = v[..., : v.shape[-1] - 1]
    assert v.ndim > 2 and v.dtype.is_floating_point, "an image is needed"
    return v


def _loop(v: Tensor) -> Tensor:
    return torch.cat([v[:, i : i + 1] * (i + 1) for i in range(v.shape[1])], 1)


BY_SIZE: tuple[Callable[..., Tensor], ...] = (
    lambda net, v: _shuffle(v),
    lambda net, v: _shuffle(v),
    lambda net, v: _even(v),
    lambda net, v: _cut(v),
    lambda net, v: _loop(v),
    lambda net, v: F.pad(v, (0, -v.shape[-1] % 4)),
    lambda net, v: v[..., v.shape[-1] // 4 :],
    lambda net, v: v / v.shape[1],
    lambda net, v: v.reshape(v.shape[0], v.size(1), -1).mean(-1),
)


def _crop_or_pad(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    pads = [d.random.choice([0, 1, 1, -1]) for _ in range(2 * d.dimensions)]
    mode = d.random.choice(["constant", "constant", "reflect", "replicate"])
    if mode != "constant":
        pads = [max(p, 0) for p in pads]
    step = d.random.choice([1, 2])
    return d.random.choice([lambda net, v: F.pad(v, pads, mode=mode), lambda net, v: v[:, :, ::step]])


def _mean(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    axes = tuple(range(2, x.dim()))
    return d.random.choice([lambda net, v: v.mean(axes), lambda net, v: v - v.mean(axes, keepdim=True)])


def _select(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    name = d.add(torch.randperm(x.shape[1]))
    return lambda net, v: v.index_select(1, getattr(net, name))


def _dropout(d: Drawing, x: Tensor) -> Callable[..., Tensor]:
    return _module(d, nn.Dropout(0.5)) if d.random.random() < 0.5 else lambda net, v: F.dropout(v, 0.5, net.training)


def _where(d: Drawing, x: Tensor) -> Callable[..., Tensor] | None:
    """A mask of booleans."""
    if not bool(((x - 0.1).abs() > MARGIN).all()):
        return None
    return d.random.choice([lambda net, v: v * (v > 0.1), lambda net, v: v.masked_fill(v > 0.1, 0.5)])


STEPS: dict[str, tuple[int, int, Callable[..., Any]]] = {  # weight in the draw, operands, builder
    "conv": (14, 1, of_image(_conv)),
    "twin": (3, 2, of_image(_twin)),
    "functional conv": (3, 1, of_image(_functional_conv)),
    "module again": (3, 1, of_image(_again)),
    "tied weight": (2, 1, of_image(_tied)),
    "transposed conv": (1, 1, of_image(_transposed)),
    "linear": (2, 1, _linear),
    "norm": (9, 1, of_image(_norm)),
    "other norm": (1, 1, of_image(_other_norm)),
    "pool": (2, 1, of_image(_pool)),
    "scale": (4, 1, of_image(_scale)),
    "cast constant": (2, 1, of_image(_cast_constant)),
    "activation": (4, 1, _activation),
    "sum": (6, 2, _sum),
    "cat": (2, 2, of_image(_cat)),
    "alias": (6, 1, of_image(_alias)),
    "write": (4, 1, _write),
    "write to alias": (5, 1, of_image(_write_to_alias)),
    "add in place": (3, 2, _add_in_place),
    "cast": (1, 1, _cast),
    "by size": (3, 1, of_image(_by_size)),
    "crop or pad": (2, 1, of_image(_crop_or_pad)),
    "mean": (1, 1, of_image(_mean)),
    "select": (1, 1, of_image(_select)),
    "dropout": (2, 1, of_image(_dropout)),
    "mask": (1, 1, of_image(_where)),
}
