"""Small networks in the ways that people write theirs, each named for what once stopped a fold or made it wrong.

``FORWARDS`` fold to the norm-free network that they equal, ``ALIASES`` and ``WRITES`` are the ways to share storage
and to write to it, ``VARYING`` are no functions of their input. ``assert_same_outputs`` is the tests' own comparison:
it shares nothing with the certificate's.
"""

from __future__ import annotations

import dataclasses
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torch.utils._python_dispatch import TorchDispatchMode


def trained(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics as training leaves them, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.copy_(0.2 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return network.eval()


class Unit(nn.Module):
    """Convolution and norm, as attributes, called one after the other."""

    def __init__(self, inputs: int = 3, outputs: int = 4, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


# Looks at a value, and decisions by its size


class AssertingNorm(nn.BatchNorm2d):
    """A norm and its activation in one, that checks its input."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        tracked = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if tracked else (None, None)
        x = F.batch_norm(x, mean, var, self.weight, self.bias, by_batch, momentum, self.eps)
        return self.act(self.drop(x))


class Asserting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1, bias=False), AssertingNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Looking(Unit):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if y.ndim != 4 or y.dim() != len(y.shape) or not y.dtype.is_floating_point or y.device != x.device:
            raise ValueError(f"an image is needed, not {tuple(y.shape)}")
        if y.is_sparse or y.is_quantized or (y.requires_grad and y.is_leaf):
            return y
        return self.norm(y)


class AssertsChannels(Unit):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        assert y.shape[1] == 4 and y.size(0) == x.size(0), "wrong number of channels"
        return torch.relu(self.norm(y))


class BorderedNorm(nn.Module):
    """A norm, then a border of what the norm makes of zero, written slice by slice."""

    def __init__(self, channels: int, border: int = 1) -> None:
        super().__init__()
        self.norm, self.border = nn.BatchNorm2d(channels), border

    def forward(self, x: Tensor) -> Tensor:
        y, k = self.norm(x), self.border
        norm = self.norm
        value = norm.bias.detach() - norm.running_mean * norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        y = F.pad(y, [k] * 4)
        value = value.view(1, -1, 1, 1)
        y[:, :, 0:k, :] = value
        y[:, :, -k:, :] = value
        y[:, :, :, 0:k] = value
        y[:, :, :, -k:] = value
        return y


class Bordered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.bordered = nn.Conv2d(3, 3, 1, bias=False), BorderedNorm(3)
        self.second, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.second(self.bordered(self.first(x)))))


class PoolsByShape(Unit):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(super().forward(x))
        return F.avg_pool2d(y, kernel_size=(y.shape[2], y.size(3))).view(y.size(0), -1)


class EvensOut(Unit):
    """Pads an odd image to an even one."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        if h % 2 == 1 or w % 2 == 1:
            x = F.pad(x, (0, w % 2, 0, h % 2))
        return F.max_pool2d(super().forward(x), 2)


class PadsByRemainder(Unit):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, x.size(3) % 2, 0, x.size(2) % 2)))


class Flagged(Unit):
    def forward(self, x: Tensor, with_features: bool = False, scale: float | None = None) -> Any:
        y = super().forward(x)
        if with_features:
            return y, [x, y]
        return torch.relu(y) if scale is None else y * scale


class LoopsOverBatch(Unit):
    """One image after the other, each scaled by its own largest value."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return torch.stack([image / image.abs().amax() for image in y])


class Decides(nn.Module):
    """Convolution and norm are siblings, and forward decides by the data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        if y.mean() > 1e9:
            y = -y
        return self.bn2(self.conv2(y))


class SqueezeExcite(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * torch.sigmoid(self.expand(F.relu(self.reduce(y.mean((2, 3), keepdim=True)), inplace=True)))


class Shuffles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Unit(3, 4, 1), Unit(2, 2, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).relu().chunk(2, dim=1)
        y = torch.cat((left, self.second(right)), dim=1)
        n, c, h, w = y.size()
        return torch.transpose(y.view(n, 2, c // 2, h, w), 1, 2).contiguous().view(n, -1, h, w)


class SameConv(nn.Conv2d):
    """TensorFlow's SAME padding, computed from the image's size."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, k, s, d in zip(x.shape[-2:], self.kernel_size, self.stride, self.dilation, strict=True):
            pads.append(max((-(size // -s) - 1) * s + (k - 1) * d + 1 - size, 0))
        if any(p > 0 for p in pads):
            x = F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Same(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = SameConv(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class TakesHundred(Unit):
    """Movements that do nothing at the example's size."""

    def __init__(self, take: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.take = take

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.take(x))


class TakesTwo(Unit):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x.narrow(2, 0, 16)) * torch.sigmoid(mask[:, :, :16])


# What a forward holds and reads


class Selects(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.tensor([2, 0, 3, 1]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x).index_select(1, self.order)))


class Counts(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen = self.seen + 1
        return super().forward(x)


class Normalises(Unit):
    """Statistics of the data as plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = torch.rand(3, 1, 1).double(), torch.rand(3, 1, 1).double() + 0.5

    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - self.mean) / self.std)


class Crops(nn.Module):
    """Halves and doubles an image, and crops what is too much; the example's sizes are even, as if nothing were."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.up, self.norm = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        return x + self.norm(self.up(self.down(x)))[..., :height, :width]


class SpaceToDepth(Unit):
    """Its convolution's channels are computed of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.size()
        x = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous()
        return super().forward(x.view(batch, channels * 4, height // 2, width // 2))


class CropsTwice(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), Crops(), Crops())


class Anchored(Normalises):
    """A default of the class, that each object shadows with a tensor of its own."""

    mean = torch.zeros(0)


class Pixels(Unit):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.conv.weight.dtype) / 255)


class DividesPixels(Unit):
    """A division that PyTorch promotes to float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / 255)


class HalfInput(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(3, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale)


class ReservedNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.code, self.graph = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.graph(self.code(x))


class GlobalFilter(nn.Module):
    """A learned filter in the frequency domain: complex parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.filter = Unit(), nn.Parameter(torch.randn(4, 16, 9, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.fft.rfft2(self.body(x), norm="ortho")
        return torch.fft.irfft2(y * self.filter, s=x.shape[-2:], norm="ortho")


class Masked(Unit):
    """A mask of infinities that this forward does not read."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads = reads
        self.register_buffer("mask", torch.full((4, 4), float("-inf")).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if not self.reads:
            return y
        z = y.flatten(2)
        return torch.softmax(z @ z.mT / 100 + self.mask, -1) @ z


class Autocast(Unit):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            y = super().forward(x)
        return torch.relu(y)


class LowPrecisionPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Unit(), Unit(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            z = self.second.conv(y)
        return self.second.norm(z.float())


class DropPath(nn.Module):
    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep.div_(1 - self.rate)


class StochasticDepth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.drop = Unit(), Unit(4, 4), DropPath(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.stem(x))
        return y + self.drop(self.body(y))


class Repeats(nn.Module):
    """A user's module, of user's modules, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = Unit(), nn.Sequential(Unit(4, 4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for _ in range(3):
            y = y + self.block(y)
        return y


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.act = Unit(), nn.ReLU(inplace=True)

    def forward(self, image: Tensor, *, gain: float = 2.0) -> Tensor:
        y = self.body(x=image)
        self.act(input=y)
        return y * gain


class Reparametrised(nn.Module):
    def __init__(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.conv, self.norm = wrap(nn.Conv2d(3, 4, 3, padding=1)), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


def hooked(register: str, hook: Callable[..., Any]) -> nn.Module:
    network = Unit()
    getattr(network.conv, register)(hook)
    return network


class CastConstant(nn.Module):
    """A scale that a cast changes: rounding, truncation and wrapping are part of the function."""

    def __init__(self, cast: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.cast = nn.Conv2d(3, 4, 3, bias=False), cast
        self.scale = nn.Parameter(torch.tensor([100.7, 0.3, 33.33, 1.99]).view(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.cast(self.scale)


CASTS: dict[str, Callable[[Tensor], Tensor]] = {
    "long": lambda v: v.to(torch.long),
    "int": lambda v: v.int(),
    "uint8 that wraps": lambda v: v.to(torch.uint8) * 3 + 200,
    "half": lambda v: v.half(),
    "float": lambda v: v.float(),
    "bfloat16 as another": lambda v: v.to(torch.zeros(1, dtype=torch.bfloat16)),
    "bool": lambda v: v.type(torch.bool),
    "twice": lambda v: (v.half() * 3).int() // 2,
}


# Containers of outputs


class Scores(NamedTuple):
    logits: Any
    labels: Any


@dataclass
class Prediction:
    logits: Any
    labels: Any = None


class ModelOutput(OrderedDict):
    """A dict whose entries are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


CONTAINERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "list": lambda y, z: [y, z],
    "tuple": lambda y, z: (y, z),
    "dict": lambda y, z: {"y": y, "z": z},
    "nested": lambda y, z: {"pyramid": [y, (z, {"last": z})], "none": None},
    "namedtuple": Scores,
    "dataclass": Prediction,
    "model output": lambda y, z: ModelOutput(logits=y, labels=z),
}

CONTENTS: dict[str, Callable[[Tensor], Any]] = {
    "float": lambda y: y,
    "labels": lambda y: y.argmax(1),
    "bools": lambda y: y > 0.05,
    "integers": lambda y: (y * 10).to(torch.int32),
    "complex": lambda y: torch.fft.fft2(y),
}


class Returns(nn.Module):
    """A classifier of pixels with its outputs in a container."""

    def __init__(self, container: Callable[[Any, Any], Any], content: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.container, self.content = Unit(3, 5), container, content

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return self.container(self.content(torch.relu(y)), self.content(y))


# Storage that two names share, and ways to write to it


class Unnamed(nn.Identity):
    """A subclass of a layer that passes its input on."""


ALIASES: dict[str, Callable[[Tensor], Tensor]] = {
    "data": lambda y: y.data,
    "detach": lambda y: y.detach(),
    "mT": lambda y: y.mT,
    "adjoint": lambda y: y.adjoint(),
    "real": lambda y: y.real,
    "conj": lambda y: y.conj(),
    "ravel": lambda y: y.ravel(),
    "flatten": lambda y: y.flatten(1),
    "view": lambda y: y.view(y.size(0), -1),
    "reshape": lambda y: y.reshape(-1),
    "reshape_as": lambda y: y.reshape_as(y),
    "view_as": lambda y: y.view_as(y),
    "unflatten": lambda y: y.unflatten(1, (2, -1)),
    "swapdims": lambda y: y.swapdims(1, 2),
    "moveaxis": lambda y: y.moveaxis(1, -1),
    "permute": lambda y: y.permute(1, 0, *range(2, y.dim())),
    "squeeze": lambda y: y.unsqueeze(1).squeeze(1),
    "tensor_split": lambda y: y.tensor_split(2, 1)[0],
    "split_with_sizes": lambda y: y.split_with_sizes([1, y.shape[1] - 1], 1)[1],
    "chunk": lambda y: y.chunk(2, 1)[1],
    "unbind": lambda y: y.unbind(1)[0],
    "select": lambda y: y.select(1, 0),
    "slice": lambda y: y[:, 1:],
    "narrow": lambda y: torch.narrow(y, -1, 0, 2),
    "diagonal": lambda y: y.diagonal(0, -2, -1),
    "as_strided": lambda y: y.as_strided(y.shape, y.stride()),
    "type": lambda y: y.type(y.dtype),
    "to": lambda y: y.to(y),
    "cpu": lambda y: y.cpu(),
    "contiguous": lambda y: y.contiguous(),
    "broadcast_to": lambda y: y.broadcast_to(y.shape),
    "expand_as": lambda y: y.expand_as(y),
    "positive": lambda y: +y,
    "dropout": lambda y: F.dropout(y, 0.5, False),
}
ALIASING_MODULES: dict[str, Callable[[], nn.Module]] = {
    "AlphaDropout": lambda: nn.AlphaDropout(0.5),
    "FeatureAlphaDropout": lambda: nn.FeatureAlphaDropout(0.5),
    "Dropout2d": lambda: nn.Dropout2d(0.5),
    "Identity": nn.Identity,
    "Identity's subclass": Unnamed,
    "Sequential": nn.Sequential,
}
WRITES: dict[str, Callable[[Tensor], Any]] = {
    "+= 1": lambda z: operator.iadd(z, 1),
    "-= 2 * z": lambda z: operator.isub(z, 2 * z),
    "mul_": lambda z: z.mul_(-0.5),
    "relu(z, True)": lambda z: F.relu(z, True),
    "module by keyword": lambda z: nn.ReLU(inplace=True)(input=z),
    "item": lambda z: operator.setitem(z, (..., 0), 0.25),
    "out": lambda z: torch.mul(z, 3, out=z),
    "copy_": lambda z: z.copy_(torch.ones_like(z)),
}


class WritesToAlias(Unit):
    """The alias is written to, the base is read; or the other way round."""

    def __init__(self, alias: Callable | None = None, write: str = "+= 1", module: nn.Module | None = None) -> None:
        super().__init__()
        self.alias, self.write, self.module = alias, write, module

    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        z = self.module(y) if self.module is not None else self.alias(y)
        WRITES[self.write](z)
        return self.norm(y)


class WritesToBase(WritesToAlias):
    def forward(self, x: Tensor) -> Any:
        y = self.conv(x)
        z = self.module(y) if self.module is not None else self.alias(y)
        WRITES[self.write](y)
        return self.norm(y), z * 1.0


# No functions of their input


class Noisy(nn.Module):
    """Every call gives something else."""

    def __init__(self, vary: Callable[[nn.Module, Tensor], Tensor], container: Callable, content: Callable) -> None:
        super().__init__()
        self.body, self.vary, self.container, self.content = Unit(3, 5), vary, container, content
        self.calls = 0
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Any:
        y = self.vary(self, self.body(x))
        return self.container(self.content(torch.relu(y)), self.content(y))


def _by_attribute(net: Any, y: Tensor) -> Tensor:
    net.calls += 1
    return y if net.calls % 2 else y.flip(1)


def _by_buffer(net: Any, y: Tensor) -> Tensor:
    net.count += 1
    return y * torch.cos(net.count)


VARYING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "torch.rand": lambda net, y: y + 4 * torch.rand(y.shape, dtype=y.dtype),
    "rand_like": lambda net, y: y + 4 * torch.randn_like(y),
    "active dropout": lambda net, y: F.dropout(y, 0.5),
    "bernoulli": lambda net, y: y * torch.bernoulli(torch.full_like(y, 0.5)),
    "attribute": _by_attribute,
    "buffer": _by_buffer,
}


class Chaotic(Unit):
    """Each step doubles a difference: the network's own rounding decides what it returns."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(super().forward(x))
        for _ in range(self.steps):
            y = 3.99 * y * (1 - y)
        return y


# The table


class Squeezes(Unit):
    """Forgets that one image has a batch axis too."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(super().forward(x).relu(), 1).squeeze())


class AddsBias(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(super().forward(x).relu().mean((2, 3)), self.head.weight) + 2 * self.head.bias


class Reads(Unit):
    """A line of text: a sequence along the image's width."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(4, 3, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.recurrent(super().forward(x).relu().mean(2).permute(2, 0, 1))[0]


class Swish(torch.autograd.Function):
    """Keeps its input alone for the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        s = torch.sigmoid(ctx.saved_tensors[0])
        return gradient * (s + ctx.saved_tensors[0] * s * (1 - s))


class SwishNet(Unit):
    def forward(self, x: Tensor) -> Tensor:
        return Swish.apply(super().forward(x))


class HardSwish(Unit):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * F.relu6(y + 3, inplace=True) / 6


class Cosine(Unit):
    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x).relu().mean((2, 3))
        return F.cosine_similarity(y[:, None], self.classes, dim=-1)


@dataclass(frozen=True)
class Pattern:
    """A network and what may be asked of its fold.

    ``norms``: batch norms that the result may still run. ``sizes``: image sizes besides the example's 16 that the
    network takes. ``free``: sizes at which the result computes the same; at the others it may instead say that it
    does not run there.
    """

    network: Callable[[], nn.Module]
    norms: int = 0
    inputs: tuple[tuple[int, ...], ...] = ((2, 3, 16, 16),)
    sizes: tuple[int, ...] = (24, 12)
    free: bool = True
    dtype: torch.dtype = torch.float64
    input_dtype: torch.dtype | None = None
    tolerance: float = 1e-9

    def built(self) -> nn.Module:
        torch.manual_seed(0)
        return trained(self.network()).to(self.dtype) if self.dtype != torch.float32 else trained(self.network())

    def arguments(self, batch: int | None = None, size: int | None = None, seed: int = 1) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        found = []
        for shape in self.inputs:
            shape = (batch or shape[0], shape[1], *(size or n for n in shape[2:]))
            x = torch.randn(shape, generator=generator, dtype=torch.float64)
            if self.input_dtype is torch.uint8:
                x = x.mul(64).add(128).clamp(0, 255)
            found.append(x.to(self.input_dtype or self.dtype))
        return tuple(found)


def _same_weight() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1))
    network[2].weight = network[0].weight
    return network


def _strided() -> nn.Module:
    """At 16 px the last two maps have one pixel."""
    units = [Unit(inputs, 4, stride=2) for inputs in (3, 4, 4, 4, 4)]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


class WritesToOneRow(nn.Module):
    """At 6 px the map has one row, which the write to its flat alias goes back to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, (5, 2), stride=(2, 1))
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.GroupNorm(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.norm(self.conv(x)))
        x.view(-1).mul_(2.0)
        return x


FORWARDS: dict[str, Pattern] = {
    "norm that asserts": Pattern(Asserting),
    "attribute looks": Pattern(Looking),
    "assert on channels": Pattern(AssertsChannels),
    "border by slices": Pattern(Bordered),
    "pooling by a shape": Pattern(PoolsByShape),
    "if on odd sizes": Pattern(EvensOut),
    "if on odd sizes, odd": Pattern(EvensOut, sizes=(15,), free=False),
    "pad by remainder": Pattern(PadsByRemainder),
    "pad by remainder, odd": Pattern(PadsByRemainder, sizes=(15,), free=False),
    "bool flag": Pattern(Flagged),
    "loop over the batch": Pattern(LoopsOverBatch),
    "decision by data": Pattern(Decides),
    "squeeze and excite": Pattern(SqueezeExcite),
    "channel shuffle": Pattern(Shuffles),
    "same padding": Pattern(Same),
    "same padding, odd": Pattern(Same, sizes=(15,), free=False),
    "narrow of the whole": Pattern(lambda: TakesHundred(lambda x: x.narrow(2, 0, 16)), sizes=(24,)),
    "slice of the whole": Pattern(lambda: TakesHundred(lambda x: x[..., :16, :16]), sizes=(24, 12)),
    "crop to the example": Pattern(lambda: TakesHundred(lambda x: x[:, :, -16:]), sizes=(24, 12)),
    "pool to the example": Pattern(lambda: TakesHundred(lambda x: F.adaptive_avg_pool2d(x, 16)), sizes=(32, 12)),
    "resize to the example": Pattern(lambda: TakesHundred(lambda x: F.interpolate(x, (16, 16))), sizes=(32, 12)),
    "maps down to one pixel": Pattern(_strided, sizes=(32, 64, 24, 17)),
    "map down to one row": Pattern(WritesToOneRow, inputs=((2, 3, 6, 6),), sizes=(32, 9)),
    "squeeze of all axes": Pattern(Squeezes),
    "squeeze of all axes of one image": Pattern(Squeezes, inputs=((1, 3, 16, 16),)),
    "bias apart from its layer": Pattern(AddsBias),
    "recurrent layer along a row": Pattern(Reads),
    "swish with its own gradient": Pattern(SwishNet),
    "hard swish in place": Pattern(HardSwish),
    "cosine classifier": Pattern(Cosine),
    "two inputs": Pattern(TakesTwo, inputs=((2, 3, 16, 16), (2, 4, 16, 16)), sizes=(24,)),
    "selection by a buffer": Pattern(Selects, norms=1),
    "counter buffer": Pattern(Counts),
    "plain tensors": Pattern(Normalises),
    "space to depth": Pattern(SpaceToDepth),
    "crops at sizes that are computed": Pattern(CropsTwice, sizes=(24, 13, 17)),
    "plain tensors that shadow the class's": Pattern(Anchored),
    "pixels": Pattern(Pixels, input_dtype=torch.uint8),
    "divided pixels": Pattern(DividesPixels, dtype=torch.float32, input_dtype=torch.uint8, tolerance=1e-4),
    "half input": Pattern(HalfInput, dtype=torch.float32, input_dtype=torch.float16, tolerance=1e-4),
    "modules named code and graph": Pattern(ReservedNames),
    "complex parameters": Pattern(GlobalFilter, sizes=(), dtype=torch.float32, tolerance=1e-4),
    "unread infinities": Pattern(lambda: Masked(False)),
    "infinities": Pattern(lambda: Masked(True)),
    "hook that doubles": Pattern(lambda: hooked("register_forward_hook", lambda m, a, y: y * 2), norms=1),
    "hook that looks": Pattern(lambda: hooked("register_forward_hook", lambda m, a, y: None), norms=1),
    "pre-hook": Pattern(lambda: hooked("register_forward_pre_hook", lambda m, a: (a[0] + 1,)), norms=1),
    "autocast switched off": Pattern(Autocast),
    "autocast part": Pattern(LowPrecisionPart, norms=1, dtype=torch.float32, tolerance=0.05),
    "stochastic depth": Pattern(StochasticDepth),
    "module called thrice": Pattern(Repeats, norms=3),
    "keywords": Pattern(ByKeyword),
    "weight norm": Pattern(lambda: Reparametrised(parametrizations.weight_norm)),
    "old weight norm": Pattern(lambda: Reparametrised(weight_norm)),
    "spectral norm": Pattern(lambda: Reparametrised(parametrizations.spectral_norm)),
    "old spectral norm": Pattern(lambda: Reparametrised(spectral_norm)),
    "one weight, two modules": Pattern(_same_weight),
    **{f"cast of a constant: {name}": Pattern(lambda cast=cast: CastConstant(cast)) for name, cast in CASTS.items()},
    **{
        f"{content} in {container}": Pattern(lambda a=container, b=content: Returns(CONTAINERS[a], CONTENTS[b]))
        for content in CONTENTS
        for container in CONTAINERS
        if content in ("float", "labels") or container in ("dict", "model output")
    },
}


# What the tests look with


def leaves(value: Any) -> list[Any]:
    """Tensors and plain values of any container, in order, with the containers' types."""
    if isinstance(value, Mapping):
        return [type(value), *(leaf for key in value for leaf in (key, *leaves(value[key])))]
    if isinstance(value, (list, tuple)):
        return [type(value), *(leaf for entry in value for leaf in leaves(entry))]
    if dataclasses.is_dataclass(value):
        return [type(value), *(leaf for f in dataclasses.fields(value) for leaf in leaves(getattr(value, f.name)))]
    return [value]


def assert_same_outputs(actual: Any, expected: Any, tolerance: float) -> None:
    """Floating leaves to ``tolerance`` of the leaf's largest value, all others equal."""
    found, wanted = leaves(actual), leaves(expected)
    assert len(found) == len(wanted), (found, wanted)
    for a, b in zip(found, wanted, strict=True):
        if not isinstance(b, Tensor):
            assert type(a) is type(b) and a == b, f"{a!r} where {b!r} is right"
            continue
        assert isinstance(a, Tensor) and a.shape == b.shape and a.dtype == b.dtype, f"{a} where {b} is right"
        if b.is_floating_point() or b.is_complex():
            finite = b[torch.isfinite(b)]
            scale = float(finite.abs().max()) if finite.numel() else 0.0
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True)
        else:
            assert torch.equal(a, b), f"{int((a != b).sum())} of {b.numel()} entries differ"


def private(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.clone() for x in arguments)


def snapshot(network: nn.Module) -> dict[str, Any]:
    """Everything of a network that a fold must leave alone."""
    found: dict[str, Any] = {}
    for name, tensor in [*network.named_parameters(remove_duplicate=False), *network.named_buffers()]:
        found[f"tensor {name}"] = (id(tensor), tensor.requires_grad, tensor.detach().clone())
    for path, module in network.named_modules():
        found[f"mode {path}"] = module.training
        for name, value in vars(module).items():
            if isinstance(value, Tensor):  # by value: hooks of old parametrisations set them at every call
                found[f"tensor {path}.{name}"] = (name, value.shape, value.detach().clone())
            else:
                held = tuple(value) if isinstance(value, (dict, set)) else id(value)
                found[f"attribute {path}.{name}"] = held
    return found


def assert_untouched(before: dict[str, Any], network: nn.Module) -> None:
    after = snapshot(network)
    assert list(after) == list(before), set(after) ^ set(before)
    for name, old in before.items():
        if name.startswith("tensor"):
            assert after[name][:2] == old[:2] and torch.equal(after[name][2], old[2]), f"{name} was touched"
        else:
            assert after[name] == old, f"{name} was touched"


class Executed(TorchDispatchMode):
    """Counts what runs: batch norms, and convolutions and matrix products with their multiply-adds."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = self.products = self.multiply_adds = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.norms += "batch_norm" in name
        if name == "convolution" or name in PRODUCTS:
            self.products += 1
            self.multiply_adds += _multiply_adds(name, args, result)
        return result


PRODUCTS = {"mm": 1, "addmm": 2, "bmm": 1, "baddbmm": 2}


def _multiply_adds(name: str, args: Any, result: Tensor) -> int:
    if name != "convolution":
        return result.numel() * args[PRODUCTS[name]].shape[-2]
    transposed, weight = args[6], args[1]
    return (args[0] if transposed else result).numel() * (weight.numel() // weight.shape[0])


def executed(network: nn.Module, arguments: tuple[Tensor, ...]) -> Executed:
    with torch.no_grad(), Executed() as counted:
        network(*private(arguments))
    return counted
