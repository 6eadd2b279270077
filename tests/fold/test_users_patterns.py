"""Networks as people write them fold to what they equal, or are refused in words that say what to do."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from tests.fold.users_patterns import (
    ALIASES,
    ALIASING_MODULES,
    FORWARDS,
    WRITES,
    ByKeyword,
    Counts,
    Flagged,
    Pattern,
    Unit,
    WritesToAlias,
    WritesToBase,
    assert_same_outputs,
    assert_untouched,
    executed,
    private,
    snapshot,
    trained,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import weight_norm

from repfold.fold import Certificate, FoldError, fold

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning"),
]


def folds(
    network: nn.Module, *arguments: Tensor, tolerance: float = 1e-9, policy: str = "auto"
) -> tuple[nn.Module, Certificate]:
    """Fold; the outputs are the same, the network is as it was."""
    before = snapshot(network)
    plain, certificate = fold(network, private(arguments), policy=policy)
    assert_untouched(before, network)
    assert certificate.error <= max(tolerance, 1e-9)
    with torch.no_grad():
        assert_same_outputs(plain(*private(arguments)), network(*private(arguments)), tolerance)
    return plain, certificate


def norms_of(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


@pytest.mark.parametrize("name", FORWARDS)
def test_pattern(name):
    pattern = FORWARDS[name]
    network, arguments = pattern.built(), pattern.arguments()
    executed(network, arguments)  # hooks of old parametrisations set their tensors at the first call
    plain, certificate = folds(network, *arguments, tolerance=pattern.tolerance)
    ran = executed(plain, arguments)
    assert ran.norms <= pattern.norms, f"{ran.norms} norms left: {certificate.left}"
    if pattern.norms == 0:
        assert norms_of(plain) == 0, plain
    was = executed(network, arguments)
    assert ran.products <= was.products and ran.multiply_adds <= was.multiply_adds
    for batch, size in [(3, 16), (1, 16), *((2, size) for size in pattern.sizes)]:
        compare_at(pattern, network, plain, batch, size)


def compare_at(pattern: Pattern, network: nn.Module, plain: nn.Module, batch: int, size: int) -> None:
    arguments = pattern.arguments(batch, size, seed=7)
    with torch.no_grad():
        expected = network(*private(arguments))
        try:
            actual = plain(*private(arguments))
        except Exception:
            assert not pattern.free and size != 16, f"does not run at batch {batch} and size {size}"
            return
    assert_same_outputs(actual, expected, tolerance=pattern.tolerance)


@pytest.mark.parametrize(("policy", "write"), [("auto", "+= 1"), ("always", "mul_")])
@pytest.mark.parametrize("direction", [WritesToAlias, WritesToBase])
@pytest.mark.parametrize("alias", [*ALIASES, *ALIASING_MODULES])
def test_storage_that_is_shared(alias, direction, policy, write):
    module = ALIASING_MODULES[alias]() if alias in ALIASING_MODULES else None
    torch.manual_seed(0)
    network = trained(direction(ALIASES.get(alias), write, module)).double()
    plain, _ = folds(network, torch.randn(2, 3, 8, 8, dtype=torch.float64), policy=policy)
    x = torch.randn(3, 3, 10, 10, dtype=torch.float64)
    with torch.no_grad():
        assert_same_outputs(plain(x), network(x), 1e-9)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("alias", ["data", "view", "positive", "chunk", "Identity's subclass"])
def test_every_way_to_write(alias, write):
    module = ALIASING_MODULES[alias]() if alias in ALIASING_MODULES else None
    torch.manual_seed(0)
    network = trained(WritesToAlias(ALIASES.get(alias), write, module)).double()
    folds(network, torch.randn(2, 3, 8, 8, dtype=torch.float64), policy="always")


class Labelled(nn.Module):
    """Only labels come out: what a wrong fold of the rest would spoil in silence."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"labels": self.body(x).argmax(1)}


@pytest.mark.parametrize("alias", [*ALIASES, *ALIASING_MODULES])
def test_labels_behind_shared_storage(alias):
    module = ALIASING_MODULES[alias]() if alias in ALIASING_MODULES else None
    torch.manual_seed(0)
    network = trained(Labelled(WritesToAlias(ALIASES.get(alias), "mul_", module))).double()
    folds(network, torch.randn(4, 3, 8, 8, dtype=torch.float64), policy="always")


# The original


def test_a_child_in_train_mode_is_left_and_its_statistics_stay():
    network = trained(nn.Sequential(Unit(), nn.ReLU(), Unit(4, 4)))
    network[0].norm.train()
    before = snapshot(network)
    plain, certificate = fold(network, torch.randn(4, 3, 8, 8))
    assert_untouched(before, network)
    assert any("train mode" in item.reason and "0" in item.name for item in certificate.left), certificate.left
    assert norms_of(plain) == 1 and [region.name for region in certificate.regions] == ["2.conv"]
    x = torch.randn(3, 3, 12, 12)
    with torch.no_grad():
        assert_same_outputs(plain(x), copy.deepcopy(network)(x), 1e-4)


def test_a_counter_counts_nothing_while_folding():
    network = trained(Counts())
    fold(network, torch.randn(2, 3, 8, 8))
    assert type(network.calls) is Tensor and int(network.calls) == 0 and network.seen == 0
    assert next(iter(network.state_dict())) == "calls"


def test_a_network_that_has_never_run():
    """A tensor that a hook will set is no leaf before the first call, and no copy of it can be made."""
    network, x = trained(nn.Sequential(weight_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))), torch.randn(2, 3, 8, 8)
    plain, _ = fold(network, x)
    assert norms_of(plain) == 0
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)


# The result is the same module, plain


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.act = Unit(), Unit(4, 4), nn.ReLU(inplace=True)
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.act(self.body(self.act(self.stem(x)))).mean((2, 3))))


def test_frozen_parameters_stay_frozen():
    network = trained(Classifier())
    network.stem.requires_grad_(False)
    plain, _ = fold(network, torch.randn(2, 3, 8, 8))
    assert not any(p.requires_grad for p in plain.stem.parameters())
    assert all(p.requires_grad for p in [*plain.body.parameters(), *plain.head.parameters()])
    network.requires_grad_(False)
    plain, _ = fold(network, torch.randn(2, 3, 8, 8))
    assert not any(p.requires_grad for p in plain.parameters())


def test_a_shared_weight_stays_shared():
    network = FORWARDS["one weight, two modules"].built()
    plain, _ = folds(network, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert plain.get_submodule("0").weight is plain.get_submodule("2").weight


def test_a_shared_weight_is_not_untied_without_a_word():
    network = trained(nn.Sequential(Unit(3, 3), nn.ReLU(), Unit(3, 3))).double()
    network[2].conv.weight = network[0].conv.weight
    plain, certificate = folds(network, torch.randn(2, 3, 8, 8, dtype=torch.float64))
    convs = [m for m in plain.modules() if isinstance(m, nn.Conv2d)]
    words = " ".join([*(f"{item.name} {item.reason}" for item in certificate.left), *certificate.caveats])
    assert convs[0].weight is convs[1].weight or "conv" in words, certificate


class Octave(nn.Module):
    """Two convolutions by parts of one weight, as octave convolutions cut it: from ``start`` on the second's."""

    def __init__(self, start: int):
        super().__init__()
        self.weight, self.start = nn.Parameter(torch.randn(14, 3, 3, 3) / 5), start
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(14 - start)])

    def forward(self, x: Tensor) -> Tensor:
        fine = self.norms[0](F.conv2d(x, self.weight[:8], padding=1))
        coarse = self.norms[1](F.conv2d(F.avg_pool2d(x, 2), self.weight[self.start :].flip(0), padding=1))
        return torch.cat([fine.mean((2, 3)), coarse.mean((2, 3))], 1)


@pytest.mark.parametrize(("start", "folded"), [(8, True), (7, False)])
def test_parts_of_one_weight_fold_where_they_share_nothing(start, folded):
    plain, certificate = folds(trained(Octave(start)).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert (len(certificate.regions) == 2) is folded
    assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) is not folded


@pytest.mark.parametrize("how", ["no_grad", "set_grad_enabled", "detach"])
def test_a_part_without_gradient_stays_without(how):
    class Fixed(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            if how == "detach":
                y = self.act(self.stem(x)).detach()
            else:
                with torch.no_grad() if how == "no_grad" else torch.set_grad_enabled(False):
                    y = self.act(self.stem(x))
            return self.head(self.body(y).mean((2, 3)))

    plain, _ = fold(trained(Fixed()), torch.randn(2, 3, 8, 8))
    plain(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert norms_of(plain) == 0
    assert all(p.grad is None for p in plain.stem.parameters())
    assert all(p.grad is not None and p.grad.any() for p in [*plain.body.parameters(), *plain.head.parameters()])


def test_dropout_is_there_for_further_training():
    plain, _ = fold(trained(Classifier()), torch.randn(2, 3, 8, 8))
    assert [type(m) for m in plain.modules()].count(nn.Dropout) == 1 and not plain.training
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(plain(x), plain(x))
    plain.train()
    assert not torch.equal(plain(x), plain(x))


def test_functional_dropout_drops_in_further_training():
    class Functional(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            y = self.act(self.stem(x)).mean((2, 3))
            return self.head(nn.functional.dropout(y, 0.5, self.training))

    plain, _ = fold(trained(Functional()), torch.randn(2, 3, 8, 8))
    x = torch.randn(4, 3, 8, 8)
    assert torch.equal(plain(x), plain(x))
    plain.train()
    assert not torch.equal(plain(x), plain(x))


def test_every_parameter_still_trains():
    for name in ("norm that asserts", "border by slices", "squeeze and excite", "module called thrice", "weight norm"):
        pattern = FORWARDS[name]
        plain, _ = fold(pattern.built(), pattern.arguments())
        assert list(plain.parameters())
        plain.train()(*pattern.arguments()).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in plain.parameters() if p.requires_grad), name


@pytest.mark.parametrize("name", ["norm that asserts", "channel shuffle", "squeeze and excite", "keywords"])
def test_the_result_is_an_ordinary_module(name):
    pattern = FORWARDS[name]
    plain, _ = fold(pattern.built(), pattern.arguments())
    arguments = pattern.arguments(seed=3)
    expected = plain(*arguments)
    twin = copy.deepcopy(plain)
    assert torch.equal(twin(*arguments), expected)
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in plain.parameters()}
    buffer = io.BytesIO()
    torch.save(plain.state_dict(), buffer)
    buffer.seek(0)
    for tensor in [*twin.parameters(), *twin.buffers()]:
        tensor.data.zero_()
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(twin(*arguments), expected)
    paths = {path for path, module in plain.named_modules() if isinstance(module, nn.Conv2d)}
    assert paths == {path for path, module in pattern.built().named_modules() if isinstance(module, nn.Conv2d)}


@pytest.mark.parametrize("name", ["norm that asserts", "squeeze and excite"])
def test_the_result_exports(name):
    pattern = FORWARDS[name]
    plain, _ = fold(pattern.built(), pattern.arguments())
    exported = torch.export.export(plain, pattern.arguments())
    torch.testing.assert_close(exported.module()(*pattern.arguments()), plain(*pattern.arguments()))


def test_the_result_is_called_as_the_network_was():
    network = trained(ByKeyword())
    plain, _ = fold(network, torch.randn(2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(plain(image=x), network(image=x), rtol=1e-4, atol=1e-5)


def test_arguments_that_are_no_tensors():
    network, x = trained(Flagged()).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    for flag in (True, False):
        plain, certificate = fold(network, (x, flag))
        assert norms_of(plain) == 0 and certificate.regions
        with torch.no_grad():
            assert_same_outputs(plain(x, flag), network(x, flag), 1e-9)


# Refused, in our words


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda net: net.body.to("meta"), r"body\.conv\.weight"),
        (lambda net: net.body.norm.train() and net.train(), r"network\.eval\(\)"),
        (lambda net: net.body.conv.weight.data.fill_(float("inf")), r"body\.conv\.weight.*finite"),
    ],
    ids=["meta", "train", "infinite"],
)
def test_networks_that_cannot_fold(spoil, message):
    network = trained(Classifier())
    spoil(network)
    with pytest.raises(FoldError, match=message):
        fold(network, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("script", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(2, 3, 8, 8))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_network_folds_or_is_refused_in_words(script):
    network = script(trained(Unit()))
    try:
        plain, _ = fold(network, torch.randn(2, 3, 8, 8))
    except FoldError as error:
        assert "script" in str(error).lower()
    else:
        x = torch.randn(3, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_stays_and_the_rest_folds():
    network = trained(nn.Sequential(Unit(), torch.jit.script(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1))), Unit(4, 4)))
    plain, certificate = fold(network, torch.randn(2, 3, 8, 8))
    assert {"0.conv", "2.conv"} <= {region.name for region in certificate.regions}
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.body, self.error = Unit(), error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error", [TypeError("t"), KeyError("k"), AttributeError("a"), AssertionError(), StopIteration()]
)
def test_whatever_a_forward_raises_is_told_in_our_words(error):
    with pytest.raises(FoldError, match="Raises cannot run on the example"):
        fold(trained(Raises(error)), torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("example", [None, "image", {}, (), [1, 2], 3.0])
def test_examples_that_are_none(example):
    with pytest.raises(FoldError, match="cannot run on the example"):
        fold(trained(Unit()), example)


# The tests' own comparison, shown what it must reject


ONES = torch.ones(3, dtype=torch.float64)


@pytest.mark.parametrize(
    "wrong",
    [{"y": ONES + 1e-6}, {"z": ONES}, {"y": ONES.float()}, {"y": ONES[None]}, [ONES], {}, {"y": 1.0}, {"y": ONES > 0}],
)
def test_the_comparison_rejects(wrong):
    assert_same_outputs({"y": ONES * (1 + 1e-12)}, {"y": ONES}, 1e-9)
    with pytest.raises(AssertionError):
        assert_same_outputs(wrong, {"y": ONES}, 1e-9)


def test_the_snapshot_sees_a_touch():
    network = trained(Classifier())
    touches = (
        lambda: network.stem.conv.weight.data.add_(1),
        lambda: network.stem.norm.running_mean.add_(1),
        lambda: network.stem.norm.train(),
        lambda: network.head.requires_grad_(False),
        lambda: setattr(network, "found", 1),
        lambda: network.head.register_forward_hook(print),
    )
    for touch in touches:
        before = snapshot(network)
        assert_untouched(before, network)
        touch()
        with pytest.raises(AssertionError):
            assert_untouched(before, network)
