"""The comparison is not blind: whatever leaves a network, in whatever container, a difference in it is seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.fold.users_patterns import (
    CONTAINERS,
    CONTENTS,
    VARYING,
    Chaotic,
    Noisy,
    Returns,
    Unit,
    assert_same_outputs,
    trained,
)
from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.fold import FoldError, fold

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_network_that_differs_from_itself_is_refused(container, content):
    network = trained(Noisy(VARYING["torch.rand"], CONTAINERS[container], CONTENTS[content]))
    with pytest.raises(FoldError, match=r"itself|random|state"):
        fold(network, X)


@pytest.mark.parametrize("content", ["float", "labels"])
@pytest.mark.parametrize("vary", VARYING)
def test_randomness_and_state_are_refused(vary, content):
    network = trained(Noisy(VARYING[vary], CONTAINERS["dict"], CONTENTS[content]))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for seed in range(3):
        torch.manual_seed(seed)
        with pytest.raises(FoldError, match=r"itself|random|state"):
            fold(network, X)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Counting(nn.Module):
    """Python values that change from call to call."""

    def __init__(self, value: Callable[[int], Any]) -> None:
        super().__init__()
        self.body, self.value, self.calls = Unit(), value, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.body(x), self.value(self.calls)


@pytest.mark.parametrize(
    "value", [lambda n: n, lambda n: n % 2 == 0, lambda n: float(n), lambda n: f"call {n}", lambda n: {"n": [n]}]
)
def test_plain_values_are_compared(value):
    with pytest.raises(FoldError, match=r"itself|random|state"):
        fold(trained(Counting(value)), X)


class Structured(nn.Module):
    """Another structure at another call."""

    def __init__(self, returns: Callable[[Tensor, int], Any]) -> None:
        super().__init__()
        self.body, self.returns, self.calls = Unit(), returns, 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.returns(self.body(x), self.calls)


@pytest.mark.parametrize(
    "returns",
    [
        lambda y, n: [y] * n,
        lambda y, n: {f"y{n}": y},
        lambda y, n: y if n % 2 else None,
        lambda y, n: (y,) if n % 2 else [y],
        lambda y, n: y if n % 2 else y.flatten(),
        lambda y, n: y if n % 2 else y.double(),
    ],
)
def test_structure_shape_and_dtype_are_compared(returns):
    with pytest.raises(FoldError, match=r"itself|random|state"):
        fold(trained(Structured(returns)), X)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_an_honest_network_folds_and_its_error_is_measured(container, content):
    network = trained(Returns(CONTAINERS[container], CONTENTS[content]))
    plain, certificate = fold(network, X)
    with torch.no_grad():
        expected, actual = network(X), plain(X)
    if content in ("float", "complex"):
        assert 0 < certificate.error < 1e-4
        assert_same_outputs(actual, expected, 1e-4)
    else:
        assert 0 <= certificate.error < 1e-4
        assert type(actual) is type(expected)
    assert [region.name for region in certificate.regions] == ["body.conv"]


class Handle:
    """A container that nobody knows."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Hides(nn.Module):
    def __init__(self, returns: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.returns = Unit(), returns

    def forward(self, x: Tensor) -> Any:
        return self.returns(self.body(x))


@pytest.mark.parametrize(
    "returns",
    [lambda y: None, lambda y: "done", lambda y: {}, lambda y: [], lambda y: Handle(y), lambda y: (y[:0],)],
    ids=["none", "text", "empty dict", "empty list", "unknown object", "no entries"],
)
def test_nothing_compared_is_said(returns):
    try:
        _, certificate = fold(trained(Hides(returns)), X)
    except FoldError as error:
        assert "compare" in str(error)
    else:
        assert any("compare" in caveat for caveat in certificate.caveats), certificate


def test_what_is_not_compared_beside_what_is_is_said():
    try:
        _, certificate = fold(trained(Hides(lambda y: {"y": y, "handle": Handle(y)})), X)
    except FoldError as error:
        assert "compare" in str(error)
    else:
        assert any("compare" in caveat for caveat in certificate.caveats), certificate


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_hide_nothing(value):
    class Spoils(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.calls = Unit(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            y = self.body(x)
            y[:, 0] = value
            return y * (1 + self.calls % 2)

    with pytest.raises(FoldError, match=r"itself|random|state"):
        fold(trained(Spoils()), X)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_equal_to_themselves(value):
    network = trained(Hides(lambda y: torch.where(y > 0.5, value, y)))
    plain, certificate = fold(network, X)
    assert 0 <= certificate.error < 1e-4
    with torch.no_grad():
        assert_same_outputs(plain(X), network(X), 1e-4)


@pytest.mark.parametrize("steps", [8, 14, 26, 60])
def test_a_network_that_amplifies_rounding_is_judged_or_refused(steps):
    """Every step doubles rounding, 6e-8. The error says what the fold changed, and it is not the outputs' own size."""
    network = trained(Chaotic(steps))
    try:
        plain, certificate = fold(network, X)
    except FoldError as error:
        assert steps > 14 and "condition" in str(error)
        return
    with torch.no_grad():
        difference = float((plain(X) - network(X)).abs().max())
    assert certificate.error > difference / 10
    assert difference < 0.1 or certificate.caveats, f"a difference of {difference:.2g} without a word"


def test_a_difference_beyond_rounding_is_judged_in_float64():
    network = trained(Chaotic(14)).double()
    plain, certificate = fold(network, X.double())
    with torch.no_grad():
        torch.testing.assert_close(plain(X.double()), network(X.double()), rtol=1e-9, atol=1e-9)
    assert certificate.regions and certificate.error < 1e-9


def test_a_size_that_was_not_compared_is_not_listed():
    certificate = fold(trained(Unit()), X)[1]
    assert (tuple(X.shape),) in certificate.sizes
    batches = {shapes[0][0] for shapes in certificate.sizes}
    images = {shapes[0][2:] for shapes in certificate.sizes}
    assert len(batches) > 1 and any(s < (16, 16) for s in images) and any(s > (16, 16) for s in images), certificate


def test_a_network_bound_to_a_size_lists_that_size_alone():
    network = trained(nn.Sequential(Unit(), nn.Flatten(), nn.Linear(4 * 16 * 16, 5)))
    certificate = fold(network, X)[1]
    assert {shapes[0][2:] for shapes in certificate.sizes} == {(16, 16)}
    assert len({shapes[0][0] for shapes in certificate.sizes}) > 1


def test_two_inputs_are_compared_at_other_sizes():
    class Adds(Unit):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return super().forward(x + y)

    certificate = fold(trained(Adds()), (X, 2 * X))[1]
    assert len({shapes[0] for shapes in certificate.sizes}) > 2
    assert all(len(shapes) == 2 and shapes[0] == shapes[1] for shapes in certificate.sizes)


class Decides(nn.Module):
    """Turns large images (``harmful``), or computes the same for them by another expression."""

    def __init__(self, harmful: bool) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.harmful = harmful

    def linear(self, x):
        return self.norm(self.conv(x))

    def forward(self, x):
        y = self.linear(x)
        if x.shape[2] > 30:
            y = y.flip(2) if self.harmful else y + 0.0
        return y.relu()


class DecidesWithoutParts(Decides):
    """No module of it is linear, so that it can only be folded as a whole."""

    def linear(self, x):
        scale = self.norm.weight * (self.norm.running_var + self.norm.eps).rsqrt()
        return self.conv._conv_forward(x, self.conv.weight, None) * scale[:, None, None]


SMALL, LARGE = torch.randn(1, 3, 24, 40), torch.randn(1, 3, 40, 24)


def test_a_size_that_the_forward_decides_by_is_enforced_where_it_matters():
    network = trained(DecidesWithoutParts(harmful=True))
    plain, certificate = fold(network, X)
    assert certificate.regions and any("30" in caveat for caveat in certificate.caveats), certificate.caveats
    torch.testing.assert_close(plain(SMALL), network(SMALL))
    with pytest.raises(RepFoldError, match="30"):
        plain(LARGE)


@pytest.mark.parametrize("network", [Decides(True), Decides(False), DecidesWithoutParts(False)])
def test_a_size_that_the_forward_decides_by_is_free_elsewhere(network):
    plain, certificate = fold(trained(network), X)
    assert certificate.regions and not any("30" in caveat for caveat in certificate.caveats), certificate.caveats
    torch.testing.assert_close(plain(SMALL), network(SMALL))
    torch.testing.assert_close(plain(LARGE), network(LARGE))


class PadsOddWidths(DecidesWithoutParts):
    """What it does there shows in the numbers, but seldom in what it returns of them."""

    def __init__(self, returns: Callable[[Tensor], Any]) -> None:
        super().__init__(harmful=True)
        self.returns = returns

    def forward(self, x):
        y = self.linear(nn.functional.pad(x, (0, 1)) if x.shape[3] % 2 else x)
        return self.returns(y.mean((2, 3)))


BLUNT: dict[str, Callable[[Tensor], Any]] = {
    "bools": lambda y: y > 1e6,
    "labels": lambda y: (y - torch.arange(4.0) * 1e6).argmax(1),
    "zeros": lambda y: (y - 1e6).relu(),
    "a mask of floats": lambda y: (y > 1e6).to(y),
    "beside numbers that do not depend on it": lambda y: (y > 1e6, torch.full_like(y, 0.25)),
}


@pytest.mark.parametrize("returns", BLUNT)
def test_outputs_that_are_equal_by_chance_free_no_size(returns):
    network = trained(PadsOddWidths(BLUNT[returns]))
    plain, certificate = fold(network, X)
    assert any("% 2" in caveat for caveat in certificate.caveats), certificate.caveats
    assert_same_outputs(plain(X[..., :14]), network(X[..., :14]), 1e-4)
    with pytest.raises(RepFoldError, match="% 2"):
        plain(X[..., :13])


class CutsBeforeALayerNorm(nn.Module):
    """Its LayerNorm fixes the width, so that the end of its slice is a number, of the example's width alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 4, 3, padding=1), nn.LayerNorm(30)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y), y[..., : y.shape[-1] - 1] * 2


def test_a_region_whose_slice_ends_at_a_number_is_proved_on_the_example():
    network = trained(CutsBeforeALayerNorm())
    x = torch.randn(2, 3, 30)
    plain, certificate = fold(network, x, policy="always")
    assert certificate.regions
    assert_same_outputs(plain(x), network(x), 1e-5)
