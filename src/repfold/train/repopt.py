"""Training RepOpt networks: from scales to a target that starts at its branches' fold, and its rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from repfold import models, run_files
from repfold.errors import RepFoldError
from repfold.models.repopt import RepOptTable, branch_network, initial_scales, target_name
from repfold.models.repvgg import RepVGG
from repfold.models.scales import Scales
from repfold.optim import Rules, reparameterize
from repfold.train.events import Listener, Note
from repfold.train.settings import ModelSettings

_TRACED_SIZE = 64  # px; what a fold is does not depend on the size of the image


@dataclass(frozen=True)
class Reparameterized:
    """What a target is trained under, and the scales that it follows from."""

    rules: Rules
    scales: Scales


def start_target(
    network: nn.Module, settings: ModelSettings, run: Path | None, emit: Listener
) -> Reparameterized | None:
    """Give a RepOpt target the weights that its branches fold to; return its rules. None for any other network.

    Args:
        run: the directory of the run that is resumed, whose own copy of the scales counts, or None.

    Raises: RepFoldError for scales of another architecture, not finite, or given to a network that takes none.
    """
    table = network.table if isinstance(network, RepVGG) else None
    if not (isinstance(table, RepOptTable) and table.role == "target"):
        if settings.scales:
            raise RepFoldError(
                f"scales are for the targets of a hyper-search, such as repopt-vgg-a0, and {settings.name} is none. "
                "Leave them, or set the model to the target of the network that they were searched with."
            )
        return None
    if settings.expand:
        raise RepFoldError(
            f"{settings.name} has its branches in the optimizer already: leave out expand={settings.expand}, or expand "
            "vgg-..., the same network without rules."
        )
    assert isinstance(network, RepVGG)
    scales = _scales(settings, run)
    branches = branch_network(network, scales)
    if scales is None:
        scales = initial_scales(branches)
        emit(
            Note(
                f"No scales are given: {settings.name} trains under those that a hyper-search begins with (sqrt(2/i) "
                f"in block i of a stage). Searched ones are usually better: train {settings.name}-hs, and give that "
                "run as --scales."
            )
        )
    size = _TRACED_SIZE
    plain, rules = reparameterize(branches, torch.zeros(2, network.in_channels, size, size))
    network.load_state_dict({target_name(name): value for name, value in plain.state_dict().items()})
    return Reparameterized(rules.on(network, target_name), scales)


def _scales(settings: ModelSettings, run: Path | None) -> Scales | None:
    if run is not None and (run / run_files.SCALES).exists():
        return models.load_scales(run / run_files.SCALES)
    return models.load_scales(settings.scales) if settings.scales else None
