"""SGD on folded weights that moves them as SGD on their branches would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from repfold.optim.rep_optimizer import Group, RepOptimizer, as_groups, dense_views, gradients, laid_out, matches
from repfold.optim.rules import Rules


class RepSGD(RepOptimizer, torch.optim.SGD):
    """torch.optim.SGD with J·Jᵀ applied to the gradient of every weight that has a rule.

    The order is the branches': first the rule, then coupled weight decay (which does not pull on the untrained part of
    the kernel), then momentum, dampening and Nesterov (RepOptimizer, arXiv:2205.15242, appendix A). Gradients under
    a rule stay as backward left them. Do not clip them by their global norm: that breaks the equivalence.

    Args:
        params: parameters or groups of the plain network, as for torch.optim.SGD.
        rules: what ``repfold.optim.reparameterize`` returned with that network.
        options: those of torch.optim.SGD (lr, momentum, dampening, weight_decay, nesterov, foreach, fused, ...).

    Raises: OptimError for parameters given twice, or missing though they have a rule.
    """

    def __init__(self, params: ParamsT, *, rules: Rules, **options: Any) -> None:
        super().__init__(as_groups(params, rules), **options)
        self._adopt(rules)
        self._forget()

    def _forget(self) -> None:
        self._masks: dict[nn.Parameter, Tensor] = {}
        self._constants: dict[nn.Parameter, Tensor | None] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _update(self, with_rule: set[int]) -> None:
        moved = self._apply_rules()
        for group in self.param_groups:
            parameters: list[Any] = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            given = [moved.get(p, p.grad) for p in parameters]
            self._spare_constants(parameters, given, group)
            with_momentum = group["momentum"] != 0
            buffers: list[Any] = [self.state[p].get("momentum_buffer") if with_momentum else None for p in parameters]
            weights, steps, memories = parameters, given, buffers
            if group["fused"] and with_momentum and all(buffer is not None for buffer in buffers):
                given, buffers = _alike(given, parameters), _alike(buffers, parameters)
                weights, steps, memories = dense_views(parameters, given, buffers)
            sgd(
                weights,
                steps,
                memories,
                has_sparse_grad=any(gradient.is_sparse for gradient in given),
                foreach=group["foreach"],
                fused=group["fused"],
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=group["dampening"],
                nesterov=group["nesterov"],
                maximize=group["maximize"],
            )
            if with_momentum:
                for parameter, buffer in zip(parameters, buffers, strict=True):
                    self.state[parameter]["momentum_buffer"] = buffer

    def _apply_rules(self) -> dict[nn.Parameter, Tensor]:
        """J·Jᵀ(G) for every parameter that has a rule and a gradient."""
        masked: list[nn.Parameter] = []
        given: list[Tensor] = []
        masks: list[Tensor] = []
        moved: dict[nn.Parameter, Tensor] = {}
        for rule in self.rules:
            if rule.operator is not None:
                gradient = gradients(rule)
                images = rule(gradient) if gradient is not None else ()
                moved |= {p: image.to(p) for p, image in zip(rule.parameters, images, strict=False)}
                continue
            for part, parameter in enumerate(rule.parameters):
                if parameter.grad is not None:
                    mask = self._masks.get(parameter)
                    if mask is None or not matches(mask, parameter):
                        mask = self._masks[parameter] = laid_out(rule.mask(part), parameter)
                    masked.append(parameter)
                    given.append(parameter.grad)
                    masks.append(mask)
        if masked:
            products = torch._foreach_mul(given, masks)
            moved |= dict(zip(masked, products, strict=True))
        return moved

    def _spare_constants(self, parameters: list[Any], given: list[Tensor], group: Group) -> None:
        """SGD will add λ·W; the branches have λ·(W − C)."""
        if not self._constants:
            for rule in self.rules:
                for parameter, fixed in zip(rule.parameters, rule.constant, strict=True):
                    self._constants[parameter] = None if fixed.is_zero else laid_out(fixed.dense(), parameter)
        decay = group["weight_decay"]
        for i, parameter in enumerate(parameters):
            constant = self._constants.get(parameter)
            if constant is not None and decay:
                pull = decay * constant.to(parameter)
                given[i] = given[i] + pull if group["maximize"] else given[i] - pull


def _alike(values: list[Any], parameters: list[Any]) -> list[Any]:
    """The values, those that lie otherwise in memory than their parameter copied into its order."""
    return [v if v.stride() == p.stride() else laid_out(v, p) for v, p in zip(values, parameters, strict=True)]
