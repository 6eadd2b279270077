"""Every kind of linear piece folds, however it is written; the result is an ordinary network."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, weight_norm

import repfold
from repfold.fold import fold

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def trained(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in network.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def folds_to_one(network: nn.Module, x: torch.Tensor, policy: str = "auto") -> nn.Module:
    """Fold, compare in float64, and see that nothing but one region is left."""
    network, x = trained(network).double(), x.double()
    plain, certificate = fold(network, x, policy=policy)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x), rtol=1e-10, atol=1e-10)
    assert len(certificate.regions) == 1, certificate
    assert len([m for m in plain.modules() if not list(m.children())]) == 1, plain
    return plain


class Function(nn.Module):
    """A forward given as a function of the module and x."""

    def __init__(self, call, **parts) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_parameter(name, nn.Parameter(part))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.call(self, x)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_branches_of_any_dimension_and_padding_mode(dimensions, mode):
    conv, norm = CONVS[dimensions], NORMS[dimensions]
    network = Function(
        lambda m, x: m.norm3(m.conv3(x)) + m.norm1(m.conv1(x)) + m.norm0(x),
        conv3=conv(4, 4, 3, padding=2, dilation=2, groups=2, bias=False, padding_mode=mode),
        conv1=conv(4, 4, 1, groups=2, bias=False),
        norm3=norm(4),
        norm1=norm(4),
        norm0=norm(4),
    )
    folds_to_one(network, torch.randn(2, 4, *(9,) * dimensions))


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, affine=False),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    ],
)
def test_every_batch_norm(norm):
    folds_to_one(nn.Sequential(nn.Conv2d(4, 4, 3, 2, padding=1, bias=False), norm), torch.randn(2, 4, 9, 8))


FORMS = {
    "scalar": lambda m, x: 2 * m.conv(x) / 3 - 1,
    "per channel": lambda m, x: (m.conv(x) + m.shift).mul(m.scale),
    "from the right": lambda m, x: 1 - m.conv(x),
    "negative": lambda m, x: -m.conv(x),
    "in place": lambda m, x: m.conv(x).mul_(2).add_(m.shift),
    "difference": lambda m, x: m.conv(x) - x,
    "alpha": lambda m, x: torch.add(m.conv(x), x, alpha=-0.5),
    "residual of the identity": lambda m, x: x + x + m.conv(x),
    "functional": lambda m, x: F.conv2d(x, m.weight, padding=1) + F.conv2d(x, m.weight2, groups=2) + x,
    "computed weight": lambda m, x: F.conv2d(
        x, m.weight / m.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1), padding=1
    ),
    "functional norm": lambda m, x: F.batch_norm(m.conv(x), m.mean, m.var, None, m.shift.flatten(), False),
    "zero pad": lambda m, x: F.conv2d(F.pad(x, (1, 1, 1, 1)), m.weight),
    "asymmetric": lambda m, x: m.norm(F.conv2d(F.pad(x, (0, 1, 0, 1)), m.weight2, groups=2)),
    "mode pad": lambda m, x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), m.weight) + x,
    "same": lambda m, x: m.norm(F.conv2d(x, m.weight, padding="same")),
    "pool branch": lambda m, x: m.conv(x) + F.avg_pool2d(x, 3, 1, 1),
    "crop": lambda m, x: m.conv(x)[:, :, 1:-1, 2:],
    "subsampled": lambda m, x: m.norm(m.conv1(x[..., ::2, ::2])),
    "concatenation": lambda m, x: torch.cat([m.conv(x)[:, :2], m.conv2(x)[:, 2:]], dim=1),
    "split and joined": lambda m, x: torch.cat([m.half1(x.chunk(2, 1)[0]), m.half2(x[:, 2:])], 1),
    "shuffle": lambda m, x: m.conv1(x.view(-1, 2, 2, x.size(2), x.size(3)).transpose(1, 2).flatten(1, 2)),
    "dropout": lambda m, x: m.norm(F.dropout(m.conv(x), 0.5, m.training)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_write_it(form):
    network = Function(
        FORMS[form],
        conv=nn.Conv2d(4, 4, 3, padding=1, bias=False),
        conv2=nn.Conv2d(4, 4, 3, padding=1),
        conv1=nn.Conv2d(4, 4, 1),
        half1=nn.Conv2d(2, 2, 3, padding=1),
        half2=nn.Conv2d(2, 2, 3, padding=1),
        norm=nn.BatchNorm2d(4),
        weight=torch.randn(4, 4, 3, 3),
        weight2=torch.randn(4, 2, 1, 1),
        scale=torch.randn(4, 1, 1),
        shift=torch.randn(1, 4, 1, 1),
        mean=torch.randn(4),
        var=torch.rand(4) + 0.5,
    )
    policy = "always" if form in ("crop", "concatenation") else "auto"
    folds_to_one(network, torch.randn(2, 4, 9, 8), policy)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_transposed_convolutions(stride):
    network = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride, 1, stride - 1, groups=2, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
    )
    folds_to_one(network, torch.randn(2, 4, 5, 6), "always")


def test_pixel_shuffle_takes_the_norm_before_it():
    network = nn.Sequential(nn.Conv2d(4, 8, 1, bias=False), nn.PixelShuffle(2), nn.BatchNorm2d(2))
    folds_to_one(network, torch.randn(2, 4, 5, 6), "always")


@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm, parametrizations.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weight_parametrizations(norm):
    network = nn.Sequential(norm(nn.Conv2d(4, 4, 3, padding=1, bias=False)))
    plain = folds_to_one(network, torch.randn(2, 4, 9, 8))
    assert list(dict(plain.named_parameters())) == ["0.weight"]


def test_linear_layers_and_their_norms():
    folds_to_one(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)), torch.randn(3, 6))
    folds_to_one(Function(lambda m, x: m.a(m.b(x)) * 2, a=nn.Linear(4, 4), b=nn.Linear(5, 4)), torch.randn(3, 7, 5))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(x).mean((2, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    network, x = trained(Net()).to(dtype), torch.randn(2, 3, 12, 12, dtype=dtype)
    plain, certificate = fold(network, x)
    assert {p.dtype for p in plain.parameters()} == {dtype}
    assert certificate.regions[0].error_float64 < 1e-12
    assert certificate.dtype == str(dtype).removeprefix("torch.")


def test_the_result_is_an_ordinary_network():
    network, x = trained(Net()), torch.randn(2, 3, 16, 16)
    plain, _ = repfold.fold(network, x)
    assert sorted(plain.state_dict()) == ["head.bias", "head.weight", "stem.0.bias", "stem.0.weight"]
    for other in (torch.randn(1, 3, 33, 20), torch.randn(5, 3, 8, 8)):
        torch.testing.assert_close(plain(other), network(other), rtol=1e-4, atol=1e-5)
    twin = copy.deepcopy(plain)
    loss = twin.train()(x).square().sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in twin.parameters())
    assert all(p.grad is None for p in network.parameters())
    exported = torch.export.export(plain, (x,))
    torch.testing.assert_close(exported.module()(x), plain(x))
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    traced = torch.jit.trace(plain, x)
    torch.testing.assert_close(traced(x), plain(x))


def test_under_torch_compile():
    network, x = trained(Net()), torch.randn(2, 3, 16, 16)
    plain, _ = fold(network, x)
    compiled = torch.compile(plain, backend="aot_eager")
    torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)


def test_the_kept_modules_are_private_copies():
    network, x = trained(Net()), torch.randn(2, 3, 16, 16)
    plain, _ = fold(network, x)
    with torch.no_grad():
        plain.head.weight.zero_()
    assert network.head.weight.abs().sum() > 0


def test_a_network_whose_own_rounding_is_large_is_held_to_that():
    """Adding and subtracting 1e5 loses digits in float32; the fold does not, so it differs from the network by them."""
    network = Function(
        lambda m, x: torch.relu((m.norm(m.conv(x)) + 1e5) - 1e5), conv=nn.Conv2d(4, 4, 1), norm=nn.BatchNorm2d(4)
    )
    x = torch.randn(2, 4, 9, 8)
    plain, certificate = fold(trained(network), x)
    assert certificate.error > 1e-4
    torch.testing.assert_close(plain(x), torch.relu(network.norm(network.conv(x))), rtol=1e-4, atol=1e-5)
