"""Fine-tuning the classifier first: for some steps everything below it is as it was loaded, statistics included."""

from __future__ import annotations

from collections.abc import Set

from torch import nn


class HeadFirst:
    """Freezes all of ``network`` but its ``classifier`` for the first ``steps`` updates of a run.

    What is frozen depends on the position in the run alone, so that a resumed one goes on alike.

    Args:
        together: whether several processes train: the gradients that they wait for are then computed, and dropped.
    """

    def __init__(self, network: nn.Module, classifier: Set[nn.Parameter], steps: int, *, together: bool) -> None:
        self.steps, self.together = steps, together
        self.parameters = [p for p in network.parameters() if p.requires_grad and p not in classifier]
        # Norms that train would go on gathering statistics, and dropout would drop.
        self.modules = [module for module in network.modules() if classifier.isdisjoint(module.parameters())]
        self.frozen = False

    def before(self, index: int) -> None:
        """Freeze, or release, what update ``index`` (from 0) needs so."""
        freeze = index < self.steps
        if freeze == self.frozen:
            return
        self.frozen = freeze
        for module in self.modules:
            module.training = not freeze
        for parameter in self.parameters:
            parameter.requires_grad_(self.together or not freeze)

    def drop_gradients(self, index: int) -> None:
        """Have the optimizer leave what is frozen in update ``index`` as it is."""
        if index < self.steps:
            for parameter in self.parameters:
                parameter.grad = None
