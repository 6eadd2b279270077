"""GeneralNorm2d against PyTorch's own layers where they agree, and against its definition where they do not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repfold.errors import RepFoldError
from repfold.norms import GeneralNorm2d

N, C, H, W = 6, 8, 4, 6


def batch(seed: int = 0, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (N, C, H, W)) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * x + torch.arange(shape[1], dtype=torch.float64)[:, None, None]).to(dtype)


def affine(*modules: nn.Module) -> None:
    """Give all modules the same scales and shifts that are not 1 and 0."""
    random = torch.Generator().manual_seed(7)
    weight, bias = torch.randn(C, generator=random), torch.randn(C, generator=random)
    for module in modules:
        module.weight.data, module.bias.data = weight.clone(), bias.clone()  # type: ignore[union-attr]


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert (ours - theirs).abs().max() <= 1e-6 * max(1.0, theirs.abs().max().item())


@pytest.mark.parametrize(
    ("groups", "theirs"),
    [([1, C, 1, 1], nn.BatchNorm2d(C)), ([N, C, 1, 1], nn.InstanceNorm2d(C, affine=True, track_running_stats=True))],
)
def test_literal_reading_is_batch_norm_and_instance_norm_running_statistics_included(
    groups: list[int], theirs: nn.BatchNorm2d | nn.InstanceNorm2d
) -> None:
    ours = GeneralNorm2d(C, groups)
    affine(ours, theirs)
    for seed in range(4):
        x, y = batch(seed).requires_grad_(), batch(seed).requires_grad_()
        ours_y, theirs_y = ours(x), theirs(y)
        assert_close(ours_y, theirs_y)
        (ours_y**3).sum().backward()
        (theirs_y**3).sum().backward()
        assert (x.grad - y.grad).abs().max() <= 1e-4 * y.grad.abs().max()  # type: ignore[union-attr,operator]
    averaged = theirs.running_mean, theirs.running_var
    for buffer, expected in zip((ours.running_mean, ours.running_var), averaged, strict=True):
        assert_close(buffer.flatten(), expected)  # type: ignore[union-attr,arg-type]
    ours.eval(), theirs.eval()
    assert_close(ours(batch(9)), theirs(batch(9)))
    odd = batch(9)[:5]  # in evaluation a batch that gN does not divide is as good as any
    assert_close(ours(odd), theirs(odd))


def test_literal_reading_in_training_is_layer_norm() -> None:
    ours, theirs = GeneralNorm2d(C, [N, 1, 1, 1], affine=False), nn.LayerNorm([C, H, W], elementwise_affine=False)
    assert_close(ours(batch()), theirs(batch()))


@pytest.mark.parametrize(
    ("groups", "theirs"),
    [
        ([1, 1, 1, 1], nn.GroupNorm(1, C)),
        ([1, 4, 1, 1], nn.GroupNorm(4, C)),
        ([3, 2, 1, 1], nn.GroupNorm(2, C)),
        ([1, C, 1, 1], nn.InstanceNorm2d(C, affine=True)),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_each_sample_by_itself_is_group_layer_and_instance_norm(
    groups: list[int], theirs: nn.Module, training: bool
) -> None:
    ours = GeneralNorm2d(C, groups, per_sample=True).train(training)
    theirs.train(training)
    affine(ours, theirs)
    assert_close(ours(batch()), theirs(batch()))
    assert_close(ours(batch()[:1]), theirs(batch()[:1]))
    assert not list(ours.buffers())


def by_definition(x: torch.Tensor, groups: tuple[int, ...]) -> torch.Tensor:
    """Cut x into blocks with Python loops and normalise each."""
    result = x.clone()
    sizes = [size // group for size, group in zip(x.shape, groups, strict=True)]
    for place in torch.cartesian_prod(*(torch.arange(group) for group in groups)).view(-1, 4).tolist():
        block = tuple(slice(at * size, (at + 1) * size) for at, size in zip(place, sizes, strict=True))
        result[block] = (x[block] - x[block].mean()) / (x[block].var(correction=0) + 1e-5).sqrt()
    return result


groups_of_the_batch = st.tuples(*(st.sampled_from([d for d in range(1, n + 1) if n % d == 0]) for n in (N, C, H, W)))


@given(groups_of_the_batch)
def test_any_groups_are_their_definition(groups: tuple[int, int, int, int]) -> None:
    layer, x = GeneralNorm2d(C, groups, affine=False, momentum=1.0).double(), batch(dtype=torch.float64)
    if groups == (N, C, H, W):
        with pytest.raises(RepFoldError, match="one value"):
            layer(x)
        return
    assert torch.allclose(layer(x), by_definition(x, groups), atol=1e-9)
    if groups[0] == 1:  # then the running statistics are those of the batch, but for the unbiased variance
        values = x.numel() / (groups[1] * groups[2] * groups[3])
        layer.running_var *= (values - 1) / values
        assert torch.allclose(layer.eval()(x), by_definition(x, groups), atol=1e-9)


def test_the_definition_sees_other_groups() -> None:
    x = batch(dtype=torch.float64)
    layer = GeneralNorm2d(C, [1, 4, 1, 1], affine=False).double()
    assert not torch.allclose(layer(x), by_definition(x, (1, 2, 1, 1)), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("per_sample", [True, False])
def test_half_precision_keeps_its_dtype_and_float32_statistics(dtype: torch.dtype, per_sample: bool) -> None:
    layer = GeneralNorm2d(C, [1, 2, 2, 1], per_sample)
    x = batch(dtype=dtype)
    y = layer.to(dtype)(x)
    expected = GeneralNorm2d(C, [1, 2, 2, 1], per_sample)(x.float())
    assert y.dtype == dtype and (y.float() - expected).abs().max() < 0.02
    assert layer.eval()(x).dtype == dtype


def test_channels_last() -> None:
    layer = GeneralNorm2d(C, [2, 4, 1, 2])
    assert_close(layer(batch().contiguous(memory_format=torch.channels_last)), layer(batch()))


@pytest.mark.parametrize("groups", [[1, 4, 1, 1], [1, 4, 2, 1]])
@pytest.mark.parametrize("per_sample", [True, False])
def test_evaluation_can_be_traced(groups: list[int], per_sample: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, C, 3), GeneralNorm2d(C, groups, per_sample)).eval()
    traced = torch.fx.symbolic_trace(network)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(traced(x), network(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GeneralNorm2d(C, [1, 3, 1, 1]), "3 groups of channels do not divide 8 channels"),
        (lambda: GeneralNorm2d(C, [1, 16, 1, 1]), "do not divide"),
        (lambda: GeneralNorm2d(C, [1, 1, 1]), "four numbers"),
        (lambda: GeneralNorm2d(C, [1, 0, 1, 1]), "four numbers"),
        (lambda: GeneralNorm2d(C, [4, 1, 1, 1])(batch()), "4 groups of samples do not divide 6 samples"),
        (lambda: GeneralNorm2d(C, [1, 1, 3, 1])(batch()), "rows"),
        (lambda: GeneralNorm2d(C, [1, 1, 1, 4])(batch()), "columns"),
        (lambda: GeneralNorm2d(C, [1, C, H, W], per_sample=True)(batch()), "one value"),
    ],
)
def test_groups_that_do_not_fit_are_refused(make: object, message: str) -> None:
    with pytest.raises(RepFoldError, match=message):
        make()  # type: ignore[operator]
