"""SGD on folded weights that moves them as SGD on their branches would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from repfold.optim.ruled import as_groups, check_rules_state, gradients, refuse_clipping, rules_state
from repfold.optim.rules import Rule, Rules


class RepSGD(torch.optim.SGD):
    """torch.optim.SGD with J·Jᵀ applied to the gradient of every weight that has a rule.

    The order is the branches': first the rule, then coupled weight decay (which does not pull on the untrained part of
    the kernel), then momentum, dampening and Nesterov (RepOptimizer, arXiv:2205.15242, appendix A).

    Args:
        params: parameters or groups of the plain network, as for torch.optim.SGD.
        rules: what ``repfold.optim.reparameterize`` returned with that network.
        others: every option of torch.optim.SGD (lr, momentum, dampening, weight_decay, nesterov, foreach, fused, ...).

    Raises: OptimError for parameters given twice, or missing though they have a rule.
    """

    def __init__(self, params: Iterable[Any], *, rules: Rules, **options: Any) -> None:
        super().__init__(as_groups(params, rules), **options)
        self.rules = rules
        self._masks: dict[int, Tensor] = {}
        self._decay = {id(p): group for group in self.param_groups for p in group["params"]}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure`` re-evaluates the loss and its gradients, as in torch.optim."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        given = [(p, p.grad) for rule in self.rules for p in rule.parameters]
        try:
            self._apply_masks([rule for rule in self.rules if rule.mask is not None])
            for rule in self.rules:
                if rule.mask is None:
                    _apply_operator(rule)
                self._spare_constant(rule)
            super().step()
        finally:
            for parameter, gradient in given:  # what the user sees of a gradient stays as backward left it
                parameter.grad = gradient
        return loss

    def _apply_masks(self, rules: list[Rule]) -> None:
        if not any(p.grad is not None for rule in rules for p in rule.parameters):
            return
        masked = [(p, p.grad, self._mask(rule, i)) for rule in rules for i, p in enumerate(rule.parameters)]
        parameters, given, masks = zip(*(entry for entry in masked if entry[1] is not None), strict=True)
        for parameter, product in zip(parameters, torch._foreach_mul(given, masks), strict=True):
            parameter.grad = product

    def _mask(self, rule: Rule, i: int) -> Tensor:
        parameter = rule.parameters[i]
        mask = self._masks.get(id(parameter))
        if mask is None or mask.device != parameter.device or mask.dtype != parameter.dtype:
            assert rule.mask is not None
            # As the parameter lies in memory (channels-last, say), so that the product is one pass.
            mask = torch.empty_like(parameter, requires_grad=False).copy_(rule.mask[i])
            self._masks[id(parameter)] = mask
        return mask

    def _spare_constant(self, rule: Rule) -> None:
        """SGD will add λ·W; the branches have λ·(W − C)."""
        for parameter, constant in zip(rule.parameters, rule.constant, strict=True):
            decay = self._decay[id(parameter)]["weight_decay"]
            if decay and parameter.grad is not None and bool(constant.any()):
                parameter.grad = parameter.grad - decay * constant.to(parameter)

    def clip_grad_norm_(self, max_norm: float) -> None:
        """Raises: OptimError: global-norm clipping breaks the equivalence; the message explains why."""
        refuse_clipping(max_norm)

    def state_dict(self) -> dict[str, Any]:
        """As torch.optim's, with the rules."""
        return {**super().state_dict(), "rules": rules_state(self.rules)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises: OptimError when the state belongs to another network or to other scales."""
        check_rules_state(self.rules, state_dict.get("rules"))
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "rules"})
        self._decay = {id(p): group for group in self.param_groups for p in group["params"]}


def _apply_operator(rule: Rule) -> None:
    gradient = gradients(rule)
    if gradient is not None:
        for parameter, moved in zip(rule.parameters, rule(gradient), strict=True):
            parameter.grad = moved.to(parameter)
