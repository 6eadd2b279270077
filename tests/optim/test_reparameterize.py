"""The rules are those of the papers, and what has none is refused by name."""

import copy
import pickle

import pytest
import torch
from branches import Block, Scaled, batches, random_network, train
from torch import nn

from repfold.blocks import CSLABranches, RepVGGBlock
from repfold.optim import OptimError, RepSGD, reparameterize, restore_rules


class Csla(nn.Module):
    """Two blocks of constant-scale branches, the second with an identity."""

    def __init__(self, scales: bool = False) -> None:
        super().__init__()
        s, t = torch.tensor([0.5, -2.0, 1e-3, 1.0]), torch.tensor([1.0, 0.3, -0.7, 0.0])
        self.first = CSLABranches(3, 4, stride=2, kxk_scale=s, point_scale=t)
        self.norm = nn.BatchNorm2d(4)
        self.second = CSLABranches(4, 4, kxk_scale=t, point_scale=s, groups=2, train_scales=scales)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


X = torch.randn(2, 3, 8, 8)


def test_masks_are_those_of_repopt_vgg():
    """Elsewhere s², at the centre s² + t², on its diagonal 1 + s² + t² (RepOptimizer, arXiv:2205.15242, eq. 10)."""
    _, rules = reparameterize(Csla(), X)
    s, t = torch.tensor([0.5, -2.0, 1e-3, 1.0]).double(), torch.tensor([1.0, 0.3, -0.7, 0.0]).double()
    first, second = (rule.mask() for rule in rules)
    expected = (s**2).view(4, 1, 1, 1).repeat(1, 3, 3, 3)
    expected[:, :, 1, 1] += (t**2).view(4, 1)
    torch.testing.assert_close(first, expected, rtol=1e-6, atol=0)
    expected = (t**2).view(4, 1, 1, 1).repeat(1, 2, 3, 3)
    expected[:, :, 1, 1] += (s**2).view(4, 1)
    expected[range(4), [0, 1, 0, 1], 1, 1] += 1
    torch.testing.assert_close(second, expected, rtol=1e-6, atol=1e-12)


def test_the_rule_is_the_jacobian_times_its_transpose():
    """Against the dense Jacobian of the fold, taken tap by tap by autograd."""
    network = random_network(1, operators=True)
    _, rules = reparameterize(network, batches(1)[0][0])
    rule = next(rule for rule in rules if rule.operator is not None)
    operator = rule.operator
    columns = []
    for name in operator.trained:
        size = torch.Size(operator.shape(name)).numel()
        for unit in torch.eye(size, dtype=torch.float64):
            kernel = operator.forward({name: unit.reshape(operator.shape(name))})
            columns.append(torch.cat([part.flatten() for part in kernel]))
    jacobian = torch.stack(columns, 1)
    gradient = tuple(torch.randn_like(part) for part in operator.constant)
    flat = jacobian @ (jacobian.T @ torch.cat([part.flatten() for part in gradient]))
    torch.testing.assert_close(torch.cat([part.flatten() for part in rule(gradient)]), flat)


def test_plain_starts_at_the_branches_fold_and_leaves_them_alone():
    network = Csla().double()
    before = copy.deepcopy(network.state_dict())
    plain, _ = reparameterize(network, X)
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(plain(x), copy.deepcopy(network).train()(x))
    assert plain.training and all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    assert sum(isinstance(module, nn.Conv2d) for module in plain.modules()) == 2


def test_rules_explain_themselves():
    _, rules = reparameterize(Csla(), X)
    lines = str(rules).splitlines()
    assert lines[0].split() == ["layer", "kernel", "rule", "factors", "branches"] and len(lines) == 3
    assert "4x3x3x3" in lines[1] and "1e-06 to 4.09" in lines[1] and "kxk.weight, point.weight" in lines[1]
    assert "identity_scale" in lines[2]


class Branch(nn.Module):
    """conv3x3(x) + another branch."""

    def __init__(self, other: nn.Module) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(4, 4, 3, padding=1), other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) + self.other(x)


def test_a_norm_inside_a_branch_is_named():
    branch = Branch(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    with pytest.raises(OptimError, match=r"other\.1 is a BatchNorm inside a branch.*after the sum"):
        reparameterize(branch, torch.randn(2, 4, 6, 6))
    with pytest.raises(OptimError, match="BatchNorm inside a branch"):
        reparameterize(RepVGGBlock(4, 4), torch.randn(2, 4, 6, 6))


def test_a_norm_before_the_branches_is_none_of_theirs():
    network = nn.Sequential(nn.BatchNorm2d(4), Block([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)], 4))
    _, rules = reparameterize(network, torch.randn(2, 4, 6, 6))
    assert [rule.kind for rule in rules] == ["mask"]


def test_a_trainable_scale_is_named():
    with pytest.raises(
        OptimError, match=r"kxk_scale_O\w* scales second\.kxk\.weight and both are trained.*requires_grad_"
    ):
        reparameterize(Csla(scales=True), X)


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(4, 4, 3, bias=False), nn.Parameter(torch.full((4, 1, 1), 2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.scale.detach()


def test_a_detached_scale_is_a_constant():
    _, rules = reparameterize(Detached(), torch.randn(2, 4, 6, 6))
    (rule,) = rules
    assert torch.equal(rule.mask().unique(), torch.tensor([4.0], dtype=torch.float64))


class Absolute(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(x, self.weight.abs(), self.bias, padding=1)


class SharedScale(nn.Module):
    """u·x in both of two blocks, one u."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.u = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x) + self.u * x)
        return self.second(x) + self.u * x


def frozen() -> nn.Module:
    return Branch(nn.Conv2d(4, 4, 1)).requires_grad_(False)


def infinite() -> nn.Module:
    branch = Branch(nn.Conv2d(4, 4, 1))
    nn.init.constant_(branch.other.weight, torch.inf)
    return branch


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = Branch(nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) if float(x.sum()) > -1e9 else x


def tied() -> nn.Module:
    first, second = Branch(nn.Conv2d(4, 4, 1)), Branch(nn.Conv2d(4, 4, 1))
    second.conv.weight = first.conv.weight
    return nn.Sequential(first, nn.ReLU(), second)


REFUSED = {
    "no branches": (lambda: nn.Conv2d(4, 4, 3), "has no weight to re-parameterize.*Give it branches first"),
    "nothing trained": (frozen, "nothing in this region requires a gradient"),
    "not linear in a weight": (lambda: Branch(Absolute(4, 4, 3)), r"not linear in other\.weight"),
    "not finite": (infinite, r"other\.weight holds values that are not finite"),
    "a scale of two layers": (SharedScale, "u is used in more than one layer"),
    "tied weights": (tied, "used in more than one layer|no weight to re-parameterize"),
    "not traceable": (Untraceable, "cannot be followed as a whole"),
}


@pytest.mark.parametrize("network, message", REFUSED.values(), ids=REFUSED)
def test_refused(network, message):
    with pytest.raises(OptimError, match=message):
        reparameterize(network(), torch.randn(2, 4, 6, 6))


def test_a_bias_that_trains_is_not_folded_through_padding_because_it_is_zero_now():
    """conv1x1 with a zero bias, then a padded 3x3: exact today, wrong as soon as the bias has moved."""
    inner = nn.Conv2d(4, 4, 1)
    nn.init.zeros_(inner.bias)
    outer = nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False)
    with pytest.raises(OptimError, match="no weight to re-parameterize"):
        reparameterize(nn.Sequential(inner, outer), torch.randn(2, 4, 6, 6))
    without = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), outer)
    assert len(reparameterize(without, torch.randn(2, 4, 6, 6))[1]) == 1


def test_rules_go_over_to_a_copy_and_to_other_names():
    plain, rules = reparameterize(Csla(), X)
    twin = copy.deepcopy(plain)
    moved = rules.on(twin)
    assert all(a is b for rule in moved for a, b in zip(rule.parameters, [twin.get_parameter(n) for n in rule.names]))
    renamed = nn.ModuleDict({"a": plain})
    assert [rule.name for rule in rules.on(renamed, lambda name: f"a.{name}")] == [f"a.{rule.name}" for rule in rules]
    with pytest.raises(OptimError, match=r"do not fit Linear: 'first\.conv\.weight' is missing"):
        rules.on(nn.Linear(2, 2))


def test_rules_are_restored_from_a_state():
    plain, rules = reparameterize(Csla(), X)
    state = RepSGD(plain.parameters(), rules=rules, lr=0.1).state_dict()
    again = restore_rules(state, plain)
    assert str(again) == str(rules) and all(torch.equal(a.mask(), b.mask()) for a, b in zip(again, rules))
    with pytest.raises(OptimError, match="Give the network that the state was saved with"):
        restore_rules(state, nn.Linear(2, 2))
    with pytest.raises(OptimError, match="carries no rules"):
        restore_rules(torch.optim.SGD(plain.parameters(), lr=0.1).state_dict(), plain)


def test_operators_survive_pickling():
    network = random_network(0, operators=True)
    plain, rules = reparameterize(network, batches(1)[0][0])
    twin, same = pickle.loads(pickle.dumps((plain, rules)))
    losses = [
        train(net, lambda net, given=given: RepSGD(net.parameters(), rules=given, lr=0.05), 3)
        for net, given in ((plain, rules), (twin, same))
    ]
    assert losses[0] == losses[1]


def test_dtype_and_scaled_layers():
    """A single convolution with a constant scale has a rule too; the plain network keeps the dtype."""
    import random

    network = nn.Sequential(Scaled(nn.Conv2d(4, 4, 3), 4, random.Random(0)), nn.ReLU()).bfloat16()
    plain, rules = reparameterize(network, torch.randn(2, 4, 6, 6, dtype=torch.bfloat16))
    assert len(rules) == 1 and {p.dtype for p in plain.parameters()} == {torch.bfloat16}
