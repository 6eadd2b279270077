"""Rules as plain numbers, for files and pictures: which branches were found, and what the masks are on average."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from repfold.optim.rules import Rule, Rules


def explain(rules: Rules) -> dict[str, Any]:
    """A JSON-able account: for every layer its branches, the span of its mask, and the mean mask at each tap.

    ``diagonal`` is the mean over the pairs of channels that an identity joins (None without one), ``elsewhere`` over
    all others; nested lists of the kernel's spatial shape. Neither covers operators.
    """
    return {"layers": [_layer(rule) for rule in rules]}


def _layer(rule: Rule) -> dict[str, Any]:
    account: dict[str, Any] = {
        "name": rule.name,
        "kernel": list(rule.parameters[0].shape),
        "rule": rule.kind,
        "branches": [branch.name for branch in rule.branches],
    }
    if rule.operator is not None:
        return account | {"low": None, "high": None, "elsewhere": None, "diagonal": None}
    mask = rule.mask()
    on_diagonal = _diagonal_OI(rule)
    return account | {
        "low": float(mask.min()),
        "high": float(mask.max()),
        "elsewhere": mask[~on_diagonal].mean(0).tolist() if bool((~on_diagonal).any()) else None,
        "diagonal": mask[on_diagonal].mean(0).tolist() if bool(on_diagonal.any()) else None,
    }


def _diagonal_OI(rule: Rule) -> Tensor:
    """Which pairs of channels an identity joins: those of branches that reach each output from one input; bool."""
    out_channels, in_per_group = rule.parameters[0].shape[:2]
    found = torch.zeros(out_channels, in_per_group, dtype=torch.bool)
    for branch in rule.branches:
        assert branch.scale is not None
        reached_OI = branch.scale[0].dense().ne(0).reshape(out_channels, in_per_group, -1).any(2)
        if in_per_group > 1 and int(reached_OI.sum(1).max()) == 1:
            found |= reached_OI
    return found
