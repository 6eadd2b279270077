"""Training RepOpt networks: from scales to a target that starts at its branches' fold, its rules and its optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from repfold import models, run_files
from repfold.errors import RepFoldError
from repfold.models.repopt import RepOptTable, branch_network, initial_scales, target_name
from repfold.models.repvgg import RepVGG
from repfold.models.scales import Scales
from repfold.optim import RepAdamW, RepSGD, Rules, reparameterize
from repfold.train.events import Listener, Note
from repfold.train.optimizers import AdamW, OptimizerChoice, Sgd
from repfold.train.recipe import Recipe

_TRACED_SIZE = 64  # px; what a fold is does not depend on the size of the image


@dataclass(frozen=True)
class Reparameterized:
    """What a target is trained under, and the scales that it follows from."""

    rules: Rules
    scales: Scales


def start_target(network: nn.Module, recipe: Recipe, run: Path | None, say: Listener) -> Reparameterized | None:
    """Give a RepOpt target the weights that its branches fold to; return its rules. None for any other network.

    Args:
        run: the directory of the run that is resumed, whose own copy of the scales counts, or None.

    Raises: RepFoldError for scales of another architecture, not finite, or given to a network that takes none.
    """
    table = network.table if isinstance(network, RepVGG) else None
    if not (isinstance(table, RepOptTable) and table.role == "target"):
        if recipe.scales:
            raise RepFoldError(
                f"scales are for the targets of a hyper-search, such as repopt-vgg-a0, and {recipe.model} is none. "
                "Leave them, or set the model to the target of the network that they were searched with."
            )
        return None
    if recipe.expand:
        raise RepFoldError(
            f"{recipe.model} has its branches in the optimizer already: leave out expand={recipe.expand}, or expand "
            "vgg-..., the same network without rules."
        )
    assert isinstance(network, RepVGG)
    scales = _scales(recipe, run)
    branches = branch_network(network, scales)
    if scales is None:
        scales = initial_scales(branches)
        say(
            Note(
                f"No scales are given: {recipe.model} trains under those that a hyper-search begins with (sqrt(2/i) in "
                f"block i of a stage). Searched ones are usually better: train {recipe.model}-hs, and give that run "
                "as --scales."
            )
        )
    size = _TRACED_SIZE
    plain, rules = reparameterize(branches, torch.zeros(2, network.in_channels, size, size))
    network.load_state_dict({target_name(name): value for name, value in plain.state_dict().items()})
    return Reparameterized(rules.on(network, target_name), scales)


def _scales(recipe: Recipe, run: Path | None) -> Scales | None:
    if run is not None and (run / run_files.SCALES).exists():
        return models.load_scales(run / run_files.SCALES)
    return models.load_scales(recipe.scales) if recipe.scales else None


def make_optimizer(choice: OptimizerChoice, groups: list[Any], lr: float, *, fused: bool, rules: Rules) -> Optimizer:
    """The chosen optimizer under rules. Raises: RepFoldError for one that has no rules."""
    maker = _OPTIMIZERS.get(type(choice))
    if maker is None:
        known = " or ".join(kind.__name__.lower() for kind in _OPTIMIZERS)
        raise RepFoldError(
            f"gradient re-parameterization has rules for {known}, not for {type(choice).__name__.lower()}: set the "
            "optimizer to one of these."
        )
    return maker(choice, groups, lr, fused, rules)


def _sgd(choice: Any, groups: list[Any], lr: float, fused: bool, rules: Rules) -> Optimizer:
    return RepSGD(
        groups,
        rules=rules,
        lr=lr,
        momentum=choice.momentum,
        dampening=choice.dampening,
        nesterov=choice.nesterov,
        fused=fused,
    )


def _adamw(choice: Any, groups: list[Any], lr: float, fused: bool, rules: Rules) -> Optimizer:
    betas = (choice.momentum, choice.beta2)
    return RepAdamW(groups, rules=rules, lr=lr, betas=betas, eps=choice.eps, amsgrad=choice.amsgrad, fused=fused)


_OPTIMIZERS: dict[type, Callable[[Any, list[Any], float, bool, Rules], Optimizer]] = {Sgd: _sgd, AdamW: _adamw}
