"""expand is the right inverse of fold: same function, same folded kernels, on any convolution and any network."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from tests.expand.users_networks import FOREIGN, settled
from torch import nn

import repfold
from repfold.blocks import Block
from repfold.expand import EXPANDABLE, ExpandWarning

BLOCKS = sorted(EXPANDABLE)
WITH_NORMS = sorted(name for name, structure in EXPANDABLE.items() if structure.has_norms)
IMAGES = torch.randn(3, 3, 25, 27, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def random_conv(seed: int, *, plain_padding: bool = False) -> nn.Conv2d:
    """A float64 convolution of random geometry; ``plain_padding``: zeros and no dilation."""
    draw = random.Random(seed)
    groups = draw.choice([1, 1, 2, 4])
    in_channels, out_channels = groups * draw.choice([1, 2]), groups * draw.choice([1, 2])
    kernel = (draw.choice([1, 2, 3, 4, 5]), draw.choice([2, 3, 3, 7]))
    padding = tuple(draw.randint(0, min(4, k // 2 if plain_padding else 4)) for k in kernel)
    mode = "zeros" if plain_padding else draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    torch.manual_seed(seed)
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        stride=draw.choice([1, 1, 2, (2, 1)]),
        padding=padding,
        dilation=1 if plain_padding else draw.choice([1, 1, 2, (1, 2)]),
        groups=groups,
        bias=draw.random() < 0.5,
        padding_mode=mode,
    ).double()


def folded_convolutions(network: nn.Module, x: torch.Tensor) -> list[nn.Module]:
    """The convolutions of the folded network, in the order of their calls."""
    plain, _ = repfold.fold(network, x)
    called = [plain.get_submodule(node.target) for node in plain.graph.nodes if node.op == "call_module"]
    return [layer for layer in called if isinstance(layer, nn.Conv2d)]


def assert_inverse(network: nn.Module, rich: nn.Module, x: torch.Tensor, tolerance: float = 1e-10) -> None:
    """The same function, and the same kernels after folding."""
    with torch.no_grad():
        before, after = network(x), rich(x)
    assert float((before - after).abs().max()) <= tolerance * max(1.0, float(before.abs().max()))
    kernels, again = folded_convolutions(network, x), folded_convolutions(rich, x)
    assert len(kernels) == len(again)
    for kernel, other in zip(kernels, again):
        torch.testing.assert_close(other.weight, kernel.weight, rtol=tolerance, atol=tolerance)
        biases = [torch.zeros(k.out_channels).to(k.weight) if k.bias is None else k.bias for k in (kernel, other)]
        torch.testing.assert_close(biases[1], biases[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", BLOCKS)
def test_any_convolution_alone_and_before_a_norm(name, seed):
    conv = random_conv(seed, plain_padding=name == "dbb")
    x = torch.randn(2, conv.in_channels, 16, 17, dtype=torch.float64)
    assert not isinstance(repfold.expand(conv, name), nn.Conv2d)
    alone = nn.Sequential(conv).eval()
    assert_inverse(alone, repfold.expand(alone, name), x)
    network = settled(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)), seed=seed)
    rich = repfold.expand(network, name)
    assert_inverse(network, rich, x)
    assert isinstance(rich[1], nn.Identity if name in WITH_NORMS else nn.BatchNorm2d)


@pytest.mark.parametrize("name", BLOCKS)
def test_before_a_norm_train_mode_computes_the_same_too(name):
    network = settled(nn.Sequential(random_conv(3, plain_padding=True), nn.BatchNorm2d(random_conv(3).out_channels)))
    rich = repfold.expand(network, name)
    x = torch.randn(4, network[0].in_channels, 16, 17, dtype=torch.float64)
    # qarepvgg normalises twice, and eps counts twice.
    tolerance = 1e-4 if name == "qarepvgg" else 1e-10
    torch.testing.assert_close(rich.train()(x), copy.deepcopy(network).train()(x), rtol=tolerance, atol=tolerance)


@pytest.mark.filterwarnings("ignore::repfold.expand.ExpandWarning")
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("foreign", sorted(FOREIGN))
def test_networks_that_nobody_here_wrote(foreign, name):
    torch.manual_seed(1)
    network = settled(FOREIGN[foreign]())
    state = {key: value.clone() for key, value in network.state_dict().items()}
    rich = repfold.expand(network, name)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(rich(IMAGES), network(IMAGES), rtol=1e-10, atol=1e-10)
    if foreign != "undecided":
        assert_inverse(network, rich, IMAGES)
    large = [path for path, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert all(not isinstance(rich.get_submodule(path), nn.Conv2d) for path in large)


@pytest.mark.filterwarnings("ignore::repfold.expand.ExpandWarning")
@pytest.mark.parametrize("name", BLOCKS)
def test_float32_agrees_to_rounding(name):
    torch.manual_seed(2)
    network = settled(FOREIGN["resnet"](), torch.float32)
    rich = repfold.expand(network, name)
    assert {p.dtype for p in rich.parameters()} == {torch.float32}
    assert_inverse(network, rich, IMAGES.float(), tolerance=1e-5)


@pytest.mark.parametrize("name", ["repvgg", "dbb", "csla"])
def test_the_plain_family(name):
    torch.manual_seed(0)
    network = settled(repfold.models.create("repvgg-pico", num_classes=4, block="plain", preset="32px"), torch.float32)
    rich = repfold.expand(network, name)
    x = torch.randn(2, 3, 16, 16)
    assert_inverse(network, rich, x, tolerance=1e-5)
    assert all(type(m.branches.conv) is not nn.Conv2d for m in rich.modules() if isinstance(m, Block))


def test_only_what_where_selects():
    network = settled(FOREIGN["resnet"]())
    rich = repfold.expand(network, "acb", where="layer1.*.conv2")
    changed = {path for path, m in network.named_modules() if type(m) is not type(rich.get_submodule(path))}
    assert changed == {"layer1.0.conv2", "layer1.0.bn2", "layer1.1.conv2", "layer1.1.bn2"}
    rich = repfold.expand(network, "acb", where=lambda path, conv: conv.stride == (2, 2) and conv.kernel_size == (3, 3))
    assert type(rich.layer1[1].conv1).__name__ == "ACB" and type(rich.layer1[0].conv1) is nn.Conv2d


def test_fresh_structures_begin_as_their_papers_say():
    network = settled(FOREIGN["resnet"]())
    rich = repfold.expand(network, "dbb", where="layer2.*", fresh=True)
    kept, fresh = repfold.expand(network, "dbb", where="layer2.*").layer2.conv1, rich.layer2.conv1
    assert fresh.average.norm.weight.eq(1).all() and kept.average.norm.weight.eq(0).all()
    assert fresh.kxk.norm.running_mean.eq(0).all() and not torch.equal(fresh.kxk.conv.weight, kept.kxk.conv.weight)
    assert not torch.allclose(rich(IMAGES), network(IMAGES))
    assert rich.state_dict().keys() == repfold.expand(network, "dbb", where="layer2.*").state_dict().keys()


def test_an_example_gives_statistics_where_there_was_no_norm():
    torch.manual_seed(0)
    network = settled(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3)))
    rich = repfold.expand(network, "repvgg", example=IMAGES)
    assert_inverse(network, rich, IMAGES)
    # In train mode the norms divide by the same statistics, so that training starts from the same function.
    with torch.no_grad():
        expected = network(IMAGES)
        torch.testing.assert_close(rich.train()(IMAGES), expected, rtol=1e-3, atol=1e-3)
        blind = repfold.expand(network, "repvgg").train()(IMAGES)
    assert not torch.allclose(blind, expected, rtol=1e-2, atol=1e-2)


def test_modes_dtypes_and_frozen_weights_are_kept():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-3, momentum=0.01), nn.Conv2d(4, 4, 3)
    )
    network[1].eval()
    network[2].requires_grad_(False)
    rich = repfold.expand(network.bfloat16(), "repvgg")
    assert rich.training and not rich[0].training and rich[2].training
    assert {p.dtype for p in rich.parameters()} == {torch.bfloat16}
    assert all(p.requires_grad for p in rich[0].parameters()) and not any(p.requires_grad for p in rich[2].parameters())
    assert {(m.eps, m.momentum) for m in rich[0].modules() if isinstance(m, nn.BatchNorm2d)} == {(1e-3, 0.01)}


def test_dirac_filters_that_are_the_delta_alone():
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=False).double()
    with torch.no_grad():
        nn.init.dirac_(conv.weight)
    rich = repfold.expand(conv, "dirac")
    torch.testing.assert_close(rich(IMAGES), IMAGES)
    rich(IMAGES).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in rich.parameters())


def test_the_checker_rejects_another_kernel():
    network = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    rich = repfold.expand(network, "acb")
    with torch.no_grad():
        rich[0].row.norm.weight += 1e-6
    with pytest.raises(AssertionError):
        assert_inverse(network, rich, IMAGES)


def test_what_stays_is_said():
    network = settled(FOREIGN["resnet"]())
    with pytest.warns(
        ExpandWarning, match=r"1 of 8 convolutions stay as they are. layer1.1.shortcut.0: its kernel is 1x1"
    ):
        repfold.expand(network, "repvgg")
