"""The costs of a network's two forms side by side: what each folded layer stands for in the train form."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from repfold.fold.certificate import FoldedRegion
from repfold.fold.cost import LayerCost
from repfold.fold.folding import fold
from repfold.fold.profiling import Profile, profile

OPERATORS = "(operators)"  # layers that are called as functions


@dataclass(frozen=True)
class FormCosts:
    """One layer: the cost of all that it stands for in the train form, and of what it is folded; None where absent."""

    name: str
    train: LayerCost | None
    folded: LayerCost | None


@dataclass(frozen=True)
class Comparison:
    """``regions`` is how many regions were folded; ``layers`` are in the order of the train form."""

    train: Profile
    folded: Profile
    layers: tuple[FormCosts, ...]
    regions: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "regions": self.regions,
            "train": self.train.to_dict(),
            "folded": self.folded.to_dict(),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
        }


def compare_costs(network: nn.Module, example: object) -> Comparison:
    """Fold ``network`` and profile both forms on ``example``. Raises: FoldError as ``repfold.fold`` does."""
    plain, certificate = fold(network, example)
    train, folded = profile(network, example), profile(plain, example)
    return Comparison(train, folded, pair(train, folded, certificate.regions), len(certificate.regions))


def pair(train: Profile, folded: Profile, regions: Sequence[FoldedRegion]) -> tuple[FormCosts, ...]:
    """Put every module's cost beside that of the layer that it was folded into, or of itself where it was kept."""
    claims = Counter(module for region in regions for module in region.modules)
    owner = {module: region.name for region in regions for module in region.modules if claims[module] == 1}
    kept = {layer.name for layer in folded.layers if layer.name}
    before: dict[str, LayerCost] = {}
    for layer in train.layers:
        name = owner.get(layer.name) or (layer.name if layer.name in kept else None)
        # A module that the folded form lacks and no region claims: unused in eval mode, or only operators in a forward.
        name = name or (layer.name if layer.parameters else OPERATORS)
        before[name] = before[name] + layer if name in before else layer
    after = {layer.name or OPERATORS: layer for layer in folded.layers}
    names = dict.fromkeys([*before, *after])
    return tuple(FormCosts(name, before.get(name), after.get(name)) for name in names)
