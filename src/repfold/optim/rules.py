"""Rules: what the gradient of a folded weight is multiplied with, so that training it equals training its branches.

With W = Σ_i L_i(θ_i) + C, every L_i linear and constant, and J = [L_1 L_2 …] the Jacobian of the fold, a step of the
branches moves W as a step of W itself with J·Jᵀ applied to its gradient (RepOptimizer, arXiv:2205.15242, appendix A).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.modules import differences, shapes
from repfold.optim.compact import CompactTensor
from repfold.optim.operators import FoldOperator, Kernel

SAME = 1e-6  # relative difference of fingerprints up to which two rules are the same


class OptimError(RepFoldError):
    """The network, the rules or the parameters do not fit each other."""


@dataclass(frozen=True)
class Branch:
    """One trained tensor θ_i of a region: its name in the branch network and its shape.

    ``scale`` is L_i(1), one factor per entry of the kernel, where L_i multiplies each entry of θ_i by a factor and puts
    it at one tap of the kernel; else None.
    """

    name: str
    shape: tuple[int, ...]
    scale: tuple[CompactTensor, ...] | None


@dataclass(frozen=True)
class Rule:
    """The rule of one folded layer: for its weight [O, I/groups, *k] and, if it has one, its bias [O].

    ``constant``: the part C of the kernel that no branch trains; weight decay does not pull on it. ``operator``: the
    L_i, where some are more than factors, else None. ``couples``: whether the rule mixes weight and bias.
    ``fingerprint``: what recognises the rule after a restart.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    names: tuple[str, ...]
    branches: tuple[Branch, ...]
    constant: tuple[CompactTensor, ...]
    operator: FoldOperator | None
    couples: bool
    fingerprint: Kernel

    @property
    def kind(self) -> str:
        """What the rule is: "mask" where J·Jᵀ is diagonal, else "operator"."""
        return "mask" if self.operator is None else "operator"

    def mask(self, part: int = 0) -> Tensor:
        """The diagonal of J·Jᵀ for the weight (0) or the bias (1), float64: the sum of the squared factors."""
        assert self.operator is None
        scales = [branch.scale[part] for branch in self.branches if branch.scale is not None]
        return reduce(Tensor.add_, (scale.dense().square_() for scale in scales))

    def __call__(self, gradient: Kernel) -> Kernel:
        """J·Jᵀ applied to the gradient, in float64."""
        if self.operator is not None:
            return self.operator.forward(self.operator.transpose(gradient))
        return tuple(self.mask(i).to(part.device) * part.double() for i, part in enumerate(gradient))

    def span(self) -> tuple[float, float] | None:
        """The smallest and the largest factor of the weight's mask; None for an operator."""
        if self.operator is not None:
            return None
        mask = self.mask()
        return float(mask.min()), float(mask.max())


@dataclass(frozen=True)
class Rules:
    """The rules of a network. Iterate over them, or print them: a line for every folded layer."""

    rules: tuple[Rule, ...]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __str__(self) -> str:
        rows = [("layer", "kernel", "rule", "factors", "branches")]
        for rule in self.rules:
            kernel = "x".join(map(str, rule.parameters[0].shape)) + " + bias" * (len(rule.parameters) > 1)
            span = rule.span()
            factors = "-" if span is None else f"{span[0]:.4g} to {span[1]:.4g}"
            rows.append((rule.name, kernel, rule.kind, factors, ", ".join(_short(rule))))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [[cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)] for row in rows]
        return "\n".join("  ".join(line).rstrip() for line in lines)

    def on(self, network: nn.Module, rename: Callable[[str], str] = str) -> Rules:
        """The same rules for another network of the same layers: a copy, or one whose layers are called otherwise.

        Args:
            rename: from a parameter's name in the plain network to its name in ``network``.

        Raises: OptimError when ``network`` has no such parameter, or one of another shape.
        """
        theirs = dict(network.named_parameters(remove_duplicate=False))
        own = {rename(name): p for rule in self.rules for name, p in zip(rule.names, rule.parameters, strict=True)}
        if odd := differences(shapes(own), shapes({name: theirs[name] for name in own if name in theirs})):
            raise OptimError(
                f"the rules do not fit {type(network).__name__}: {odd}. Re-parameterize the network that these rules "
                "are to train."
            )
        moved = []
        for rule in self.rules:
            names = tuple(rename(name) for name in rule.names)
            layer = names[0].rpartition(".")[0]
            moved.append(replace(rule, name=layer, names=names, parameters=tuple(theirs[name] for name in names)))
        return Rules(tuple(moved))


def to_state(rules: Rules) -> list[dict[str, Any]]:
    """The rules as tensors and plain values, for a state_dict; of operators what recognises them."""
    return [
        {
            "name": rule.name,
            "names": list(rule.names),
            "kind": rule.kind,
            "shapes": [list(parameter.shape) for parameter in rule.parameters],
            "branches": [
                {"name": b.name, "shape": list(b.shape), "scale": b.scale and [part.to_state() for part in b.scale]}
                for b in rule.branches
            ],
            "constant": [part.to_state() for part in rule.constant],
            "fingerprint": list(rule.fingerprint),
        }
        for rule in rules
    ]


def from_state(saved: object, network: nn.Module) -> Rules:
    """The rules that the state_dict of RepSGD or RepAdamW carries, on the parameters of ``network``.

    Raises: OptimError when there are none, when they are of another network, or when one is an operator, which only the
    branch network can give.
    """
    if isinstance(saved, Mapping):
        saved = saved.get("rules")
    if not isinstance(saved, list):
        raise OptimError("this optimizer state carries no rules: it is not one of RepSGD or RepAdamW.")
    theirs = dict(network.named_parameters(remove_duplicate=False))
    rules = []
    for item in saved:
        if item["kind"] != "mask":
            raise OptimError(f"{item['name']} has an operator for a rule. Re-parameterize the branch network again.")
        own = {name: theirs[name] for name in item["names"] if name in theirs}
        if odd := differences(_saved_shapes(item), shapes(own)):
            raise OptimError(
                f"the saved rules do not fit {type(network).__name__}: {odd}. Give the network that the state was "
                "saved with."
            )
        branches = tuple(
            Branch(b["name"], tuple(b["shape"]), tuple(map(CompactTensor.from_state, b["scale"])))
            for b in item["branches"]
        )
        parameters = tuple(theirs[name] for name in item["names"])
        constant = tuple(map(CompactTensor.from_state, item["constant"]))
        fingerprint = tuple(item["fingerprint"])
        names = tuple(item["names"])
        rules.append(Rule(item["name"], parameters, names, branches, constant, None, False, fingerprint))
    return Rules(tuple(rules))


def check_same(rules: Rules, saved: object) -> None:
    """Raises: OptimError when the saved rules are those of another network, or of other scales."""
    if not isinstance(saved, list):
        raise OptimError(
            "this optimizer state carries no rules: it was saved by another optimizer, which trained another way. "
            "Start a new one."
        )
    if [item["names"] for item in saved] != [list(rule.names) for rule in rules]:
        theirs, ours = ", ".join(item["name"] for item in saved), ", ".join(rule.name for rule in rules)
        raise OptimError(f"the saved rules are for other layers ({theirs}) than this network's ({ours}).")
    for rule, item in zip(rules, saved, strict=True):
        own = dict(zip(rule.names, rule.parameters, strict=True))
        if odd := differences(shapes(own), _saved_shapes(item)):
            raise OptimError(f"the saved rules do not fit this network's: {odd}.")
        fingerprint = tuple(part.cpu().double() for part in item["fingerprint"])
        if not close(fingerprint, rule.fingerprint, SAME):
            raise OptimError(
                f"{rule.name}: the saved rule has other scales than this network's. Re-parameterize the network that "
                "the state was saved with (the same scales file), or start a new optimizer."
            )


def _saved_shapes(item: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in zip(item["names"], item["shapes"], strict=True)}


def close(a: Kernel, b: Kernel, tolerance: float = 1e-9) -> bool:
    """Whether two kernels agree relative to their largest entry."""
    scale = max([float(part.abs().max()) for part in (*a, *b) if part.numel()] + [1e-300])
    return all(float((p - q).abs().max()) <= tolerance * scale for p, q in zip(a, b, strict=True) if p.numel())


def _short(rule: Rule) -> list[str]:
    """The branches' names without what all of them begin with."""
    paths = [branch.name.split(".") for branch in rule.branches]
    shared = 0
    while all(len(path) > shared + 1 for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    return [".".join(path[shared:]) for path in paths]
