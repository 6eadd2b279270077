"""The gradient written down for grouped norms: against finite differences, and the literal reference in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from repfold import norms
from repfold.general_norm import normalise
from repfold.grouped_norm import EACH, grouped_norm
from repfold.norms import GeneralNorm2d, GroupNorm

GROUPS = [(1, 1, 1, 1), (1, 4, 1, 1), (3, 2, 1, 1), (EACH, 4, 1, 1), (EACH, 1, 2, 1), (1, 4, 4, 2), (2, 8, 2, 3)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def drawn(shape: tuple[int, ...] = (6, 8, 4, 6), mean: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x_NCHW = torch.randn(shape, generator=random, dtype=torch.float64) + mean
    return x_NCHW, *torch.randn(2, shape[1], generator=random, dtype=torch.float64)


def literal(x_NCHW: Tensor, groups: tuple[int, ...], weight_C: Tensor, bias_C: Tensor) -> Tensor:
    return normalise(x_NCHW, groups, 1e-5) * weight_C[:, None, None] + bias_C[:, None, None]


@pytest.mark.parametrize("groups", GROUPS)
def test_gradcheck(groups: tuple[int, ...]) -> None:
    tensors = [tensor.requires_grad_() for tensor in drawn((6, 8, 4, 6) if groups[0] == 2 else (3, 4, 4, 2))]
    if groups[1] > tensors[0].shape[1]:
        pytest.skip("fewer channels")
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: grouped_norm(x, groups, weight, bias, 1e-5)[0], tensors, fast_mode=True
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", GROUPS)
def test_values_and_gradients_are_those_of_the_literal_reference(
    groups: tuple[int, ...], layout: torch.memory_format
) -> None:
    results = []
    norm: Callable[..., Tensor]
    for norm in (literal, lambda *given: grouped_norm(*given, 1e-5)[0]):
        x_NCHW, weight_C, bias_C = (tensor.requires_grad_() for tensor in drawn())
        y_NCHW = norm(x_NCHW.contiguous(memory_format=layout), groups, weight_C, bias_C)
        (y_NCHW**3).sum().backward()
        results.append((y_NCHW, x_NCHW.grad, weight_C.grad, bias_C.grad))
    for expected, given in zip(*results, strict=True):
        torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-9)
    assert y_NCHW.is_contiguous(memory_format=layout)


def test_a_mean_far_from_zero_does_not_swallow_the_variance() -> None:
    """One pass over sums of squares would: 1000² holds no more than four digits of a variance of 1 in float32."""
    x_NCHW, weight_C, bias_C = drawn(mean=1000.0)
    y_NCHW, _, variance = grouped_norm(x_NCHW.float(), (1, 4, 1, 1), weight_C.float(), bias_C.float(), 1e-5)
    exact, _, true_variance = grouped_norm(x_NCHW, (1, 4, 1, 1), weight_C, bias_C, 1e-5)
    torch.testing.assert_close(variance.double(), true_variance, rtol=1e-4, atol=0)
    torch.testing.assert_close(y_NCHW.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_group_norm_by_name_is_pytorch_s_in_either_layout(dtype: torch.dtype) -> None:
    net = norms.replace(nn.Sequential(nn.BatchNorm2d(8)), "group:4").to(dtype)
    ours, theirs = net[0], nn.GroupNorm(4, 8).to(dtype)
    assert isinstance(ours, GroupNorm)
    for layer in (ours, theirs):
        nn.init.uniform_(layer.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(1))
    for layout in LAYOUTS:
        inputs = [drawn()[0].to(dtype).contiguous(memory_format=layout).requires_grad_() for _ in range(2)]
        outputs = [layer(x_NCHW) for layer, x_NCHW in zip((ours, theirs), inputs, strict=True)]
        for y_NCHW in outputs:
            (y_NCHW.float() ** 3).sum().backward()
        close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}
        torch.testing.assert_close(*outputs, **close)
        torch.testing.assert_close(*(x.grad for x in inputs), **close)
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, **close)
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_a_layer_in_training_goes_this_way_and_a_recorded_one_does_not() -> None:
    layer, x_NCHW = GeneralNorm2d(8, (1, 4, 1, 1)), drawn()[0].float().requires_grad_()
    assert "GroupedNorm" in type(layer(x_NCHW).grad_fn).__name__
    assert torch.allclose(layer.train()(x_NCHW), torch.func.functional_call(layer, {}, x_NCHW))
    exported = torch.export.export(layer.eval(), (x_NCHW.detach(),))
    torch.testing.assert_close(exported.module()(x_NCHW), layer(x_NCHW))
