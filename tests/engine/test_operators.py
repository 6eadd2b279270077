"""Every operator that the engine runs against PyTorch in float64, with every set of kernels and on random shapes."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.engine.torch_graphs import Network, error_of, spread
from torch import Tensor, nn
from torch.nn import functional as F

from repfold import engine, models

TOLERANCE = 2e-6
Forward = Callable[[Network, Tensor], Tensor]


def patches(net: Network, x: Tensor) -> Tensor:
    """Windows of 2 x 3 pixels, as attention over windows cuts them."""
    n, c, h, w = x.shape
    cut = x[:, :, : h // 2 * 2, : w // 3 * 3].reshape(n, c, h // 2, 2, w // 3, 3)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(-1, 6, c).softmax(1)


def heads(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.flatten(2).view(n, 3, c // 3, h * w).transpose(2, 3)


def assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 2:5] = x[:, :3] * 2
    y[:, :, 1:-1, -1] = 3
    y[:, -1] = y[:, 0]
    return y


by_matrix = F.linear  # by another name than the layer of parts()

# Of a tensor [N, 12, H, W]; sizes are drawn anew for each.
FORWARDS: dict[str, Forward] = {
    "concatenation": lambda s, x: torch.cat([x, F.relu(x), x * 2], 1),
    "concatenation of rows": lambda s, x: torch.cat([x, F.relu(x)], 2),
    "stack": lambda s, x: torch.stack([x, x * 2], 2).sum(2),
    "split": lambda s, x: x.chunk(3, 1)[1] * x.split([5, 4, 3], 1)[1],
    "slices": lambda s, x: x[:, 2:9, 1:-1, ::2],
    "select": lambda s, x: x[:, 3] + x[:, :, 2].mean(-1)[:, :1, None],
    "indexed channels": lambda s, x: x[:, s.order] * 2,
    "selected channels": lambda s, x: x.index_select(1, s.order[:3]).index_select(-1, s.order[1:2]),
    "a table of positions": lambda s, x: x[..., :3, :4] + s.matrix[s.places.view(-1)].view(3, 4, 7).mean(2),
    "indices of several axes": lambda s, x: x[:, s.order[:4, None], s.places[:, :2].permute(1, 0)[0]].sum(3),
    "indices apart": lambda s, x: x[:, s.places[1], 1:, s.low],
    "windows that overlap": lambda s, x: x.unfold(2, 3, 2).unfold(3, 4, 1).flatten(2).softmax(1),
    "windows by rows": lambda s, x: x.unfold(2, 2, 2).flatten(2) * 2,
    "flip": lambda s, x: x.flip((2, 3)),
    "roll": lambda s, x: torch.roll(x, (2, -3), (2, 3)),
    "channel shuffle": lambda s, x: F.channel_shuffle(x, 3) * 2,
    "channel shuffle by views": lambda s, x: x.view(x.shape[0], 3, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "halves of shuffled channels": lambda s, x: torch.cat(F.channel_shuffle(x, 2).chunk(2, 1)[::-1], 1) * 2,
    "parts of shuffled channels": lambda s, x: torch.cat(
        [part(F.channel_shuffle(x, 3)) for part in (lambda y: y[:, 3:9], lambda y: y[:, 2:7], lambda y: y[:, ::2])], 1
    ).flip(1),
    "pixel shuffle": lambda s, x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda s, x: F.pixel_unshuffle(x[:, :, :4, :6], 2),
    "windows": patches,
    "a reshape that moves": lambda s, x: x[:, :, :3, :5].reshape(x.shape[0], -1, 9),
    "a number": lambda s, x: (x + 3) * 0.5 - 1 / (x.abs() + 1),
    "a number less": lambda s, x: 1 - x,
    "broadcasts": lambda s, x: x * x.mean(1, keepdim=True) + x.mean(2, keepdim=True) - x.mean((0, 2, 3))[:, None, None],
    "quotient": lambda s, x: x / (x.abs().sum(1, keepdim=True) + 1),
    "extremes": lambda s, x: torch.maximum(x, x.flip(1)) + torch.minimum(x, x.flip(2)),
    "powers": lambda s, x: (x.abs() + 1) ** 0.75 + x**2 + (x.abs() + 1) ** -0.5 + 1.5**x,
    "sum with a product": lambda s, x: torch.addcmul(s.b, x, s.b, value=0.5) + torch.addcmul(x, x, s.b),
    "own tensors": lambda s, x: x * s.a.view(1, 12, 1, 1).expand(*x.shape) + s.b,
    "zeros and ones": lambda s, x: torch.zeros_like(x[:, 1:]) + x[:, :-1] * torch.ones_like(x[:, :1])
    - x.new_full((2, 1), 0.5)[0] * x.new_ones(x.shape[-1]),
    "ranges": lambda s, x: x[:, :3, :4, :5] * torch.arange(5) + torch.linspace(-1, 2, 4)[:, None]
    - torch.arange(3, 8.9, 2).view(3, 1, 1) + torch.eye(4, 5),
    "repetitions": lambda s, x: x.repeat(1, 2, 1, 3)[:, 5:] + s.b.repeat(2, 1, 1, 1)[1, :1],
    "assignments": lambda s, x: assigned(x),
    "decisions": lambda s, x: torch.where(x > 0.3, x, s.b) * (x <= x.flip(1)) + x * ~(x.flip(2) < -1)
    + x.masked_fill((x >= 0) & (x != s.b) | (x == 0), -2.0) - (x > 1).float(),
    "a mask of infinities": lambda s, x: x.masked_fill(x < 0, -torch.inf).softmax(1),
    "gated": lambda s, x: F.glu(x, 1) + F.glu(x[:, :6].repeat(1, 2, 1, 1), -3),
    "sums so far": lambda s, x: x.cumsum(1) + x.cumsum(-1)[:, :1] + torch.ones_like(x).cumsum(2),
    "rounded quotients": lambda s, x: torch.div(x * 9, s.b, rounding_mode="floor")
    + torch.div(x, s.b, rounding_mode=None),
    "deviations": lambda s, x: x.std((2, 3)) + x.std(3, correction=0).mean(2),
    "log of a sum": lambda s, x: x.logsumexp((2, 3)) + (x * 40).logsumexp(1, keepdim=True).mean((2, 3)),
    "columns as an image": lambda s, x: F.fold(
        F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 3), stride=(2, 1)) * 2,
        x.shape[2:],
        (3, 2),
        dilation=(1, 2),
        padding=(1, 3),
        stride=(2, 1),
    ),
    "columns as an image of patches": lambda s, x: F.fold(
        F.unfold(x[:, :, :8, :6], (4, 3), stride=(4, 3)).softmax(2), (8, 6), (4, 3), stride=(4, 3)
    ),
    "columns as an image that they do not reach": lambda s, x: F.fold(
        F.unfold(x[:, :, :7, :7], 3, stride=3), (7, 7), 3, stride=3
    ),
    "patches as columns": lambda s, x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)) * 2,
    "sum with products": lambda s, x: torch.baddbmm(s.b[:, 0], x.flatten(2), x.flatten(2).mT, beta=0.5, alpha=2)
    + torch.addmm(s.a, x.mean((2, 3)).T, x.mean((2, 3)), alpha=-1),
    "similarities": lambda s, x: F.cosine_similarity(x.mean((2, 3))[:, None], s.matrix.T, dim=-1),
    "a recurrent layer": lambda s, x: s.recurrent(x.mean(2).transpose(1, 2))[0].sum(1),
    "gelu": lambda s, x: F.gelu(x) + F.gelu(x, approximate="tanh"),
    "mish": lambda s, x: F.mish(x),
    "other functions": lambda s, x: torch.tanh(x) + F.softplus(x) + F.elu(x) + torch.exp(-x.abs()),
    "roots": lambda s, x: torch.sqrt(x.abs()) + torch.rsqrt(x.abs() + 1),
    "sine": lambda s, x: torch.sin(x) + torch.cos(x) + torch.log(x.abs() + 1) + torch.erf(x),
    "clamp": lambda s, x: x.clamp(-0.5, 0.7),
    "softmax": lambda s, x: x.softmax(1) + x.softmax(-1) * 2 + x.log_softmax(2),
    "computed weights": lambda s, x: F.conv2d(
        x.mean((2, 3))[:, :, None, None] * x, s.kernel * x.amax(), s.a[:6], 2, 1, 1, 2
    ),
    "a matrix of computed weights": lambda s, x: by_matrix(x.transpose(1, 3), s.matrix.t() * x.amax(), s.a[:7]),
    "a padding of minus infinity": lambda s, x: F.max_pool2d(F.pad(x, (1, 2, 1, 0), value=-torch.inf), 3, 2),
    "weights of each image": lambda s, x: F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), (x.mean((1, 2, 3))[:, None, None, None, None] * s.kernel).flatten(0, 1),
        padding=(2, 1), dilation=(2, 1), groups=2 * x.shape[0],
    ).view(x.shape[0], 6, -1),
    "channels last": lambda s, x: s.linear(s.norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2),
    "tokens": lambda s, x: s.norm(x.flatten(2).transpose(1, 2)).mean(1),
    "products": lambda s, x: x.flatten(2).transpose(1, 2) @ x.flatten(2),
    "products of columns": lambda s, x: x.flatten(2) @ x.flatten(2).transpose(1, 2),
    "product with an own matrix": lambda s, x: x.flatten(2).transpose(1, 2) @ s.matrix,
    "attention": lambda s, x: F.scaled_dot_product_attention(heads(x), heads(F.relu(x)), heads(x)),
    "sums": lambda s, x: x.sum(2).mean(-1) + x.var((2, 3)),
    "largest": lambda s, x: x.amax((2, 3)) + x.amin(1).mean((1, 2))[:, None],
    "largest along an axis": lambda s, x: x.max(1, keepdim=True)[0] - x.min(-2)[0].unsqueeze(2),
    "unit vectors": lambda s, x: F.normalize(x, dim=1),
    "instance norm": lambda s, x: F.instance_norm(x),
    "windows over the image's ends": lambda s, x: F.max_pool2d(x, (3, 2), (2, 3), 1, (2, 1), ceil_mode=True),
    "averages over the image's ends": lambda s, x: F.avg_pool2d(x, 3, (2, 3), 1, ceil_mode=True)
    + F.avg_pool2d(x, 3, (2, 3), 1, ceil_mode=True, count_include_pad=False),
    "adaptive max pool": lambda s, x: F.adaptive_max_pool2d(x, (3, 2)),
    "convolution of channels": lambda s, x: s.strip(x.mean((2, 3))[:, None])[:, 0],
    "convolution of a volume": lambda s, x: s.pixels(s.planes(s.channels(x[:, None]))),
    "norm of a vector": lambda s, x: s.vector(x.mean((2, 3))),
    "many groups": lambda s, x: s.depthwise(s.wide(x)),
    **{
        f"padding, {mode}": lambda s, x, mode=mode: F.pad(x, (2, 1, 3, 0), mode=mode)
        for mode in ("reflect", "replicate", "circular")
    },
    "padding of a number": lambda s, x: F.pad(x, (2, 1, 3, 0), value=0.3),
    "padding that cuts": lambda s, x: F.pad(x, (-2, 1, 3, -1)),
    "nearest": lambda s, x: F.interpolate(x, scale_factor=2) + F.interpolate(x, scale_factor=2, mode="nearest-exact"),
    **{
        f"{mode}{', corners' if corners else ''}": lambda s, x, mode=mode, corners=corners: F.interpolate(
            x, size=(17, 5), mode=mode, align_corners=corners
        )
        for mode in ("bilinear", "bicubic")
        for corners in (False, True)
    },
    "bilinear by a factor": lambda s, x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
    "antialiased": lambda s, x: F.interpolate(x, size=(5, 4), mode="bilinear", antialias=True)
    + F.interpolate(x, size=(5, 4), mode="bicubic", antialias=True),
}  # fmt: skip

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "transposed": lambda: nn.ConvTranspose2d(12, 7, 3, stride=2, padding=1, output_padding=1),
    "transposed, groups": lambda: nn.ConvTranspose2d(12, 8, (2, 4), stride=(2, 1), padding=(0, 1), groups=4),
    "transposed, cut": lambda: nn.ConvTranspose2d(12, 8, 1, stride=2, padding=1, output_padding=1),
    "transposed, dilated": lambda: nn.ConvTranspose2d(12, 8, 3, dilation=2, stride=3, bias=False),
    "group norm": lambda: nn.GroupNorm(3, 12),
    "group norm of all": lambda: nn.GroupNorm(1, 12, affine=False),
    "prelu": lambda: nn.PReLU(12),
    "prelu of one slope": nn.PReLU,
    "local response norm": lambda: nn.LocalResponseNorm(5),
}


def parts() -> dict[str, nn.Module | Tensor]:
    return {
        "a": torch.randn(12),
        "b": torch.randn(12, 1, 1),
        "matrix": torch.randn(12, 7),
        "kernel": torch.randn(6, 6, 3, 3),
        "order": torch.tensor([3, 0, 11, -1, 5]),
        "places": torch.tensor([[0, 3, 1, 2], [5, 4, 2, 2], [4, 5, 3, 3]]),
        "low": torch.tensor([0, 2, 1, 0], dtype=torch.int32),
        "linear": nn.Linear(12, 5),
        "norm": nn.LayerNorm(12),
        "recurrent": nn.LSTM(12, 4, bidirectional=True, batch_first=True),
        "strip": nn.Conv1d(1, 1, 3, padding=1),
        "channels": nn.Conv3d(1, 3, (5, 1, 1), stride=(2, 1, 1), padding=(2, 0, 0)),
        "planes": nn.Conv3d(3, 4, (3, 2, 1), padding=(1, 1, 0), dilation=(2, 1, 1), bias=False),
        "pixels": nn.Conv3d(4, 2, (1, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), groups=2),
        "vector": nn.BatchNorm1d(12),
        "wide": nn.Conv2d(12, 1200, 1),
        "depthwise": nn.Conv2d(1200, 1200, 3, padding=1, groups=1200),
    }


def drawn(name: str, kernels: str) -> Tensor:
    """Images of sizes that hang on the test's name."""
    torch.manual_seed(zlib.crc32(f"{name} {kernels}".encode()))
    n, h, w = (int(torch.randint(low, high, ())) for low, high in ((1, 4), (6, 14), (6, 14)))
    return torch.randn(n, 12, h, w)


@pytest.mark.parametrize("name", FORWARDS)
def test_operator_equals_pytorch(name: str, kernels: str, tmp_path: Path) -> None:
    x = drawn(name, kernels)
    used = {part: made for part, made in parts().items() if part in FORWARDS[name].__code__.co_names}
    network = spread(Network(FORWARDS[name], **used))
    assert error_of(network, x, tmp_path / "m.safetensors", kernels) < TOLERANCE


@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_pytorch(name: str, kernels: str, tmp_path: Path) -> None:
    x = drawn(name, kernels)
    assert error_of(spread(LAYERS[name]()), x, tmp_path / "m.safetensors", kernels) < TOLERANCE


def test_the_comparison_tells_a_wrong_operator(tmp_path: Path) -> None:
    x = drawn("wrong", "scalar")
    other = Network(lambda s, x: x.flip(2))
    assert error_of(Network(lambda s, x: x.flip(3)), x, tmp_path / "m.safetensors", "scalar", oracle=other) > 0.1


def test_operators_in_bf16(tmp_path: Path) -> None:
    if "bf16" not in engine.cpu_kernels():
        pytest.skip("this CPU has no bf16")
    x = drawn("bf16", "")
    net = Network(
        lambda s, x: s.norm(torch.cat([s.conv(x), F.gelu(x)], 1).permute(0, 2, 3, 1)).mean((1, 2)),
        conv=nn.Conv2d(12, 16, 3, padding=1), norm=nn.LayerNorm(28),
    ).eval()  # fmt: skip
    models.save(net, tmp_path / "m.safetensors", example=x)
    found = engine.load(tmp_path / "m.safetensors", threads=2, precision="bf16")(x.numpy())
    with torch.no_grad():
        expected = net(x).numpy()
    assert abs(found - expected).max() < 2e-2 * abs(expected).max()


@pytest.mark.parametrize("seed", range(10))
def test_norms_of_any_number_of_groups(seed: int, kernels: str, tmp_path: Path) -> None:
    """Few channels a group are computed together with those of the next groups, many by themselves."""
    torch.manual_seed(seed)
    n, groups, h, w = (int(torch.randint(low, high, ())) for low, high in ((1, 4), (1, 41), (1, 9), (1, 9)))
    width = (1, 1, 2, 3, 5, 8, 16, 17, 24, 70)[seed]
    channels, affine = groups * width, seed % 3 > 0
    layer = nn.InstanceNorm2d(channels, affine=affine) if width == 1 else nn.GroupNorm(groups, channels, affine=affine)
    x = torch.randn(n, channels, h, w) * 3 + 5
    assert error_of(spread(layer), x, tmp_path / "m.safetensors", kernels) < TOLERANCE
