"""AdamW on folded weights that moves them as AdamW on their branches would.

A branch of scale s sees s·G, so its moments are s·m and s²·v and its update s·m̂/(|s|·√v̂ + ε); the folded weight moves
by Σ s²·m̂/(|s|·√v̂ + ε) = Σ |s|·m̂/(√v̂ + ε/|s|). Where a branch is no mere scaling (a pool, a frozen convolution),
its moments are kept in its own shape: θ's gradient is Lᵀ(G), and the weight moves by L(Δθ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from repfold.optim.ruled import as_groups, check_rules_state, gradients, refuse_clipping, rules_state
from repfold.optim.rules import Kernel, Rule, Rules


class RepAdamW(torch.optim.AdamW):
    """torch.optim.AdamW under rules.

    Args:
        params: parameters or groups of the plain network, as for torch.optim.AdamW.
        rules: what ``repfold.optim.reparameterize`` returned with that network.
        others: the options of torch.optim.AdamW (lr, betas, eps, weight_decay, amsgrad, foreach, fused, ...).

    Raises: OptimError for parameters given twice, or missing though they have a rule.
    """

    def __init__(self, params: Iterable[Any], *, rules: Rules, **options: Any) -> None:
        super().__init__(as_groups(params, rules), **options)
        self.rules = rules
        self._scales: dict[int, list[Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; ``closure`` re-evaluates the loss and its gradients, as in torch.optim."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        options = {id(p): group for group in self.param_groups for p in group["params"]}
        given = [(p, p.grad) for rule in self.rules for p in rule.parameters]
        for rule in self.rules:
            if all(branch.scale is not None for branch in rule.branches):
                self._step_scaled(rule, options)
            else:
                self._step_branches(rule, options)
        try:
            for parameter, _ in given:  # the rest is AdamW as it is
                parameter.grad = None
            super().step()
        finally:
            for parameter, gradient in given:
                parameter.grad = gradient
        return loss

    def _step_scaled(self, rule: Rule, options: dict[int, dict[str, Any]]) -> None:
        for i, parameter in enumerate(rule.parameters):
            if parameter.grad is None:
                continue
            group, state = options[id(parameter)], self.state[parameter]
            if not state:
                state.update(_fresh_moments(parameter, group["amsgrad"]))
            gradient = -parameter.grad if group["maximize"] else parameter.grad
            mean, root = _moments(state, gradient, group)
            update = torch.zeros_like(parameter)
            for scale in self._branch_scales(rule, i):
                update.add_(scale.square() * mean / (scale.abs() * root).add_(group["eps"]))
            _decay(parameter, rule.constant[i], group)
            parameter.add_(update, alpha=-float(group["lr"]))

    def _branch_scales(self, rule: Rule, i: int) -> list[Tensor]:
        parameter = rule.parameters[i]
        scales = self._scales.get(id(parameter))
        if scales is None or scales[0].device != parameter.device or scales[0].dtype != parameter.dtype:
            scales = []
            for branch in rule.branches:
                assert branch.scale is not None
                scales.append(torch.empty_like(parameter, requires_grad=False).copy_(branch.scale[i]))
            self._scales[id(parameter)] = scales
        return scales

    def _step_branches(self, rule: Rule, options: dict[int, dict[str, Any]]) -> None:
        gradient = gradients(rule)
        if gradient is None:
            return
        first = rule.parameters[0]
        group, state = options[id(first)], self.state[first]
        if not state:
            shapes = {b.name: torch.zeros(b.shape, dtype=torch.float64, device=first.device) for b in rule.branches}
            state["step"] = torch.tensor(0.0)
            state["branches"] = {name: _fresh_moments(zero, group["amsgrad"]) for name, zero in shapes.items()}
        moved: list[Kernel] = []
        for branch in rule.branches:
            own = branch.transpose(gradient)
            mean, root = _moments(state["branches"][branch.name], -own if group["maximize"] else own, group)
            moved.append(branch.forward(mean / (root + group["eps"])))
        for i, parameter in enumerate(rule.parameters):
            _decay(parameter, rule.constant[i], options[id(parameter)])
            update = torch.stack([kernel[i] for kernel in moved]).sum(0)
            parameter.sub_((float(group["lr"]) * update).to(parameter))

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


def _fresh_moments(like: Tensor, amsgrad: bool) -> dict[str, Tensor]:
    state = {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(like), "exp_avg_sq": torch.zeros_like(like)}
    return {**state, "max_exp_avg_sq": torch.zeros_like(like)} if amsgrad else state


def _moments(state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The bias-corrected first moment and the root of the second (Adam, arXiv:1412.6980, algorithm 1)."""
    beta1, beta2 = group["betas"]
    state["step"] += 1
    step = float(state["step"])
    state["exp_avg"].lerp_(gradient, 1 - beta1)
    state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    second = state["exp_avg_sq"]
    if group["amsgrad"]:
        second = torch.maximum(state["max_exp_avg_sq"], second, out=state["max_exp_avg_sq"])
    return state["exp_avg"] / (1 - beta1**step), (second / (1 - beta2**step)).sqrt()


def _decay(parameter: Tensor, constant: Tensor, group: dict[str, Any]) -> None:
    """Decoupled decay of the trained part: W ← C + (1 − lr·λ)(W − C)."""
    rate = float(group["lr"]) * group["weight_decay"]
    if rate:
        parameter.mul_(1 - rate)
        if bool(constant.any()):
            parameter.add_(rate * constant.to(parameter))
