"""What RepSGD and RepAdamW share: parameters with and without rules, closures, AMP, and the rules in the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from repfold.optim.operators import Kernel
from repfold.optim.rules import OptimError, Rule, Rules, check_same, to_state

Group = dict[str, Any]


class RepOptimizer(Optimizer):
    """Mixed into an optimizer of torch.optim: the groups, state and hooks are its own, the update is ``_update``."""

    rules: Rules

    def _adopt(self, rules: Rules) -> None:
        """Take the rules. Raises: OptimError for options and groups under which they do not hold."""
        for group in self.param_groups:
            for option in ("differentiable", "capturable"):
                if group.get(option):
                    raise OptimError(f"{type(self).__name__} does not support {option}=True. Leave it out.")
        options = {id(parameter): group for group in self.param_groups for parameter in group["params"]}
        for rule in rules:
            apart = [options[id(parameter)] for parameter in rule.parameters]
            if rule.couples and any(_settings(group) != _settings(apart[0]) for group in apart):
                raise OptimError(
                    f"{rule.name}: its branches reach the weight and the bias together, but these are in groups of "
                    "different options. Put both into groups of the same lr and weight decay."
                )
        self.rules = rules
        # GradScaler then leaves scaled gradients and overflows to us, so that we know of it: see ``step``.
        self._step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure`` re-evaluates the loss and its gradients, as in torch.optim.

        Raises: OptimError for a closure under a GradScaler.
        """
        overflow: Tensor | None = getattr(self, "found_inf", None)  # set by torch.amp.GradScaler while it calls this
        if closure is not None and overflow is not None:
            raise OptimError(
                "a closure under a GradScaler: the gradients that it computes would not be unscaled and checked for "
                "overflow. Compute the loss and its gradients before scaler.step(optimizer), and give no closure."
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if overflow is not None:
            if overflow.item():
                return None
            self._unscale()
        with_rule = {id(parameter) for rule in self.rules for parameter in rule.parameters}
        self._update(with_rule)
        return loss

    def _update(self, with_rule: set[int]) -> None:
        """Move all parameters. ``with_rule``: the ids of those that have a rule."""
        raise NotImplementedError

    def _unscale(self) -> None:
        scale: Tensor | None = getattr(self, "grad_scale", None)
        given = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if scale is not None and given:
            torch._foreach_mul_(given, float(scale.double().reciprocal()))

    def clip_grad_norm_(self, max_norm: float) -> NoReturn:
        """Raises: OptimError: clipping by the global norm breaks the equivalence; the message explains why."""
        raise OptimError(
            f"clipping to a global norm of {max_norm} breaks the equivalence with the branch network: the norm of a "
            "folded weight's gradient is not that of its branches' gradients, so both would be scaled differently. Use "
            "a smaller lr or a warm-up, or train the branch network itself."
        )

    def state_dict(self) -> dict[str, Any]:
        """As torch.optim's, and "rules": what ``repfold.optim.restore_rules`` and ``load_state_dict`` read."""
        return {**super().state_dict(), "rules": to_state(self.rules)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises: OptimError when the state belongs to another network or to other scales."""
        check_same(self.rules, state_dict.get("rules"))
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "rules"})

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rules": self.rules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Optimizer.load_state_dict calls this too, with groups and state alone.
        super().__setstate__(state)
        self._step_supports_amp_scaling = True


def as_groups(params: ParamsT, rules: Rules) -> list[Group]:
    """The parameters as groups. Raises: OptimError when one is given twice, or one that has a rule is missing."""
    given: list[Any] = list(params)
    groups: list[Group] = [dict(g) for g in given] if given and isinstance(given[0], dict) else [{"params": given}]
    seen: set[int] = set()
    for group in groups:
        members = group["params"]
        group["params"] = [members] if isinstance(members, Tensor) else list(members)
        for member in group["params"]:
            name, parameter = member if isinstance(member, tuple) else ("a parameter", member)
            if id(parameter) in seen:
                raise OptimError(f"{name} of shape {tuple(parameter.shape)} is given twice. Give each one once.")
            seen.add(id(parameter))
    for rule in rules:
        for name, parameter in zip(rule.names, rule.parameters, strict=True):
            if id(parameter) not in seen:
                raise OptimError(
                    f"{name} has a rule but is not among the parameters. Give the parameters of the plain network that "
                    "reparameterize returned, not those of the branch network; for a copy of it take rules.on(copy)."
                )
    return groups


def gradients(rule: Rule) -> Kernel | None:
    """The layer's gradients, zero where one is missing; None when all are."""
    if all(parameter.grad is None for parameter in rule.parameters):
        return None
    return tuple(torch.zeros_like(p) if p.grad is None else p.grad for p in rule.parameters)


def laid_out(values: Tensor, parameter: nn.Parameter) -> Tensor:
    """``values`` with the dtype, device and memory layout (channels-last, say) of a parameter."""
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def dense_views(parameters: list[Any], *kinds: list[Any]) -> tuple[list[Any], ...]:
    """The parameters, and lists of what belongs to each and lies in memory alike, as views in the order of memory.

    A fused kernel of torch.optim pairs entries by their position in memory, and copies in vain each gradient that is
    not contiguous, which for channels-last weights takes longer than the step itself.
    """
    orders = [sorted(range(p.dim()), key=p.stride, reverse=True) for p in parameters]
    return tuple([t.permute(order) for t, order in zip(kind, orders, strict=True)] for kind in (parameters, *kinds))


def matches(cached: Tensor, parameter: Tensor) -> bool:
    """Whether ``cached`` still has the device and dtype of the parameter, which may have moved."""
    return cached.device == parameter.device and cached.dtype == parameter.dtype


def _settings(group: Group) -> Group:
    return {name: value for name, value in group.items() if name not in ("params", "param_names")}
