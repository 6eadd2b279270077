"""AdamW on folded weights that moves them as AdamW on their branches would.

A branch of scale s sees s·G, so its moments are s·m and s²·v and its update s·m̂/(|s|·√v̂ + ε); the folded weight moves
by Σ s²·m̂/(|s|·√v̂ + ε) = Σ |s|·m̂/(√v̂ + ε/|s|): by absolute values, whatever the signs. Where a branch is no mere
scaling (a pool, a frozen convolution), the moments are kept in its own shape: θ's gradient is Lᵀ(G), and the weight
moves by L(Δθ).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.optimizer import ParamsT

from repfold.optim.rep_optimizer import Group, RepOptimizer, as_groups, gradients, matches
from repfold.optim.rules import Rule, Rules


class RepAdamW(RepOptimizer, torch.optim.AdamW):
    """torch.optim.AdamW under rules.

    Gradients stay as backward left them. Do not clip them by their global norm: that breaks the equivalence.

    Args:
        params: parameters or groups of the plain network, as for torch.optim.AdamW.
        rules: what ``repfold.optim.reparameterize`` returned with that network.
        options: those of torch.optim.AdamW (lr, betas, eps, weight_decay, amsgrad, foreach, fused, ...).

    Raises: OptimError for parameters given twice, or missing though they have a rule.
    """

    def __init__(self, params: ParamsT, *, rules: Rules, **options: Any) -> None:
        super().__init__(as_groups(params, rules), **options)
        self._adopt(rules)
        self._forget()

    def _forget(self) -> None:
        self._terms: dict[nn.Parameter, list[_Term]] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _update(self, with_rule: set[int]) -> None:
        options = {p: group for group in self.param_groups for p in group["params"]}
        for group in self.param_groups:
            self._update_plain([p for p in group["params"] if p.grad is not None and id(p) not in with_rule], group)
        scaled: list[tuple[Rule, int]] = []
        for rule in self.rules:
            if rule.operator is not None:
                self._update_operator(rule, options)
            else:
                scaled += [(rule, part) for part, p in enumerate(rule.parameters) if p.grad is not None]
        for group in self.param_groups:
            members = [(rule, part) for rule, part in scaled if options[rule.parameters[part]] is group]
            if members:
                self._update_scaled(members, group)

    def _update_plain(self, parameters: list[Any], group: Group) -> None:
        """AdamW as it is."""
        if not parameters:
            return
        states = [self.state[p] or self._begin(p, p, group) for p in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else [],
            [state["step"] for state in states],
            foreach=group["foreach"],
            fused=group["fused"],
            amsgrad=group["amsgrad"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )

    def _begin(self, parameter: nn.Parameter, like: Tensor, group: Group) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        state.update(_fresh_moments(like, group))
        return state

    def _update_scaled(self, members: list[tuple[Rule, int]], group: Group) -> None:
        """Rules whose branches all are scales: moments of the kernel's gradient, one term per branch."""
        parameters = [rule.parameters[part] for rule, part in members]
        states = [self.state[p] or self._begin(p, p, group) for p in parameters]
        means, roots = _moments(states, [p.grad for p in parameters], group)  # type: ignore[misc]
        _decay(members, group)
        rate = float(group["lr"])
        for (rule, part), parameter, mean, root in zip(members, parameters, means, roots, strict=True):
            for term in self._terms_of(rule, part):
                denominator = root[term.entries] + group["eps"] * term.inverse
                if term.scattered:
                    parameter[term.entries] -= rate * mean[term.entries] * term.size / denominator
                else:
                    parameter[term.entries].addcdiv_(mean[term.entries] * term.size, denominator, value=-rate)

    def _terms_of(self, rule: Rule, part: int) -> list[_Term]:
        parameter = rule.parameters[part]
        terms = self._terms.get(parameter)
        if terms is None or (terms and not matches(terms[0].size, parameter)):
            scales = [b.scale[part].to(parameter) for b in rule.branches if b.scale and not b.scale[part].is_zero]
            terms = [
                _Term(s.entries(), s.values.abs(), s.values.abs().reciprocal(), s.index is not None) for s in scales
            ]
            self._terms[parameter] = terms
        return terms

    def _update_operator(self, rule: Rule, options: dict[nn.Parameter, Group]) -> None:
        """Rules with other branches: the moments of each branch's own gradient."""
        gradient = gradients(rule)
        if gradient is None:
            return
        assert rule.operator is not None
        first = rule.parameters[0]
        group, state = options[first], self.state[first]
        own = {name: value.to(first) for name, value in rule.operator.transpose(gradient).items()}
        if not state:
            state["step"] = torch.tensor(0.0)  # as torch.optim has it
            state["branches"] = {name: _fresh_moments(value, group) for name, value in own.items()}
        state["step"] += 1
        means, roots = _moments(list(state["branches"].values()), list(own.values()), group)
        steps = [mean / (root + group["eps"]) for mean, root in zip(means, roots, strict=True)]
        moved = rule.operator.forward(dict(zip(state["branches"], steps, strict=True)))
        for part, parameter in enumerate(rule.parameters):
            _decay([(rule, part)], options[parameter])
            parameter.sub_((float(group["lr"]) * moved[part]).to(parameter))


@dataclass(frozen=True)
class _Term:
    """A branch's share in an update: where, |s| there and 1/|s|; ``scattered``: entries rather than a box."""

    entries: tuple[Any, ...]
    size: Tensor
    inverse: Tensor
    scattered: bool


def _fresh_moments(like: Tensor, group: Group) -> dict[str, Tensor]:
    on_device = like.device if group["fused"] else torch.device("cpu")  # where torch.optim has them
    state = {"step": torch.zeros((), dtype=torch.float32, device=on_device)}
    for name in ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ())):
        state[name] = torch.zeros_like(like, requires_grad=False)
    return state


def _moments(states: list[dict[str, Tensor]], given: list[Tensor], group: Group) -> tuple[list[Tensor], list[Tensor]]:
    """The bias-corrected first moments and the roots of the second (Adam, arXiv:1412.6980, algorithm 1)."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    if group["maximize"]:
        given = list(torch._foreach_neg(given))
    for state in states:
        state["step"] += 1
    steps = [float(state["step"]) for state in states]
    first, second = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(first, given, 1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, given, given, value=1 - beta2)
    if group["amsgrad"]:
        largest = [state["max_exp_avg_sq"] for state in states]
        torch._foreach_maximum_(largest, second)
        second = largest
    means = torch._foreach_div(first, [1 - beta1**step for step in steps])
    roots = torch._foreach_div(second, [1 - beta2**step for step in steps])
    torch._foreach_sqrt_(roots)
    return list(means), list(roots)


def _decay(members: list[tuple[Rule, int]], group: Group) -> None:
    """Decoupled decay of the trained part: W ← C + (1 − lr·λ)(W − C)."""
    rate = float(group["lr"]) * group["weight_decay"]
    if not rate:
        return
    torch._foreach_mul_([rule.parameters[part] for rule, part in members], 1 - rate)
    for rule, part in members:
        constant, parameter = rule.constant[part], rule.parameters[part]
        if not constant.is_zero:
            constant = constant.to(parameter)
            parameter[constant.entries()] += rate * constant.values
