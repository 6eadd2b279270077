"""What RepSGD and RepAdamW share: finding the parameters that have rules, and carrying the rules in the state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from repfold.optim.rules import Kernel, OptimError, Rule, Rules, close

Groups = list[dict[str, Any]]


def as_groups(params: Iterable[Any], rules: Rules) -> Groups:
    """The parameters as groups. Raises: OptimError when one is given twice, or one that has a rule is missing."""
    given = list(params)
    groups: Groups = [dict(g) for g in given] if given and isinstance(given[0], dict) else [{"params": given}]
    seen: set[int] = set()
    for group in groups:
        members = group["params"]
        group["params"] = [members] if isinstance(members, Tensor) else list(members)
        for parameter in group["params"]:
            if id(parameter) in seen:
                raise OptimError(f"a parameter of shape {tuple(parameter.shape)} is given twice. Give each one once.")
            seen.add(id(parameter))
    for rule in rules:
        for name, parameter in zip(rule.names, rule.parameters, strict=True):
            if id(parameter) not in seen:
                raise OptimError(
                    f"{name} has a rule but is not among the parameters. Give the parameters of the plain network that "
                    "reparameterize returned, not those of the branch network or of a copy."
                )
    return groups


def gradients(rule: Rule) -> Kernel | None:
    """The layer's gradients in float64, zero where one is missing; None when all are."""
    if all(parameter.grad is None for parameter in rule.parameters):
        return None
    found = (torch.zeros_like(p) if p.grad is None else p.grad for p in rule.parameters)
    return tuple(gradient.detach().double() for gradient in found)


def rules_state(rules: Rules) -> list[dict[str, Any]]:
    """What a state_dict carries of the rules: enough to refuse another network's."""
    return [
        {
            "name": rule.name,
            "names": list(rule.names),
            "kind": rule.kind,
            "shapes": [list(p.shape) for p in rule.parameters],
            "mask": None if rule.mask is None else list(rule.mask),
            "constant": list(rule.constant),
            "fingerprint": list(rule.fingerprint),
        }
        for rule in rules
    ]


def check_rules_state(rules: Rules, saved: Any) -> None:
    """Raises: OptimError when the saved rules are those of another network, or of other scales."""
    if not isinstance(saved, list):
        raise OptimError("this optimizer state carries no rules: it is that of another optimizer. Start a new one.")
    if [item["name"] for item in saved] != [rule.name for rule in rules]:
        theirs, ours = ", ".join(item["name"] for item in saved), ", ".join(rule.name for rule in rules)
        raise OptimError(f"the saved rules are for other layers ({theirs}) than this network's ({ours}).")
    for rule, item in zip(rules, saved, strict=True):
        shapes = [list(p.shape) for p in rule.parameters]
        if item["shapes"] != shapes:
            raise OptimError(f"{rule.name}: the saved rule has shapes {item['shapes']}, this network's {shapes}.")
        fingerprint = tuple(part.cpu().double() for part in item["fingerprint"])
        if not close(fingerprint, rule.fingerprint, 1e-6):
            raise OptimError(
                f"{rule.name}: the saved rule has other scales than this network's. Re-parameterize the network that "
                "the state was saved with (the same scales file), or start a new optimizer."
            )


def refuse_clipping(max_norm: float) -> None:
    """Global-norm clipping of folded weights is not what their branches would see.

    Raises: OptimError always.
    """
    raise OptimError(
        f"clipping to a global norm of {max_norm} breaks the equivalence with the branch network: the norm of a folded "
        "weight's gradient is not that of its branches' gradients, so both would be scaled differently. Clip by value "
        "before the network (a smaller lr, warm-up), or train the branch network itself."
    )
