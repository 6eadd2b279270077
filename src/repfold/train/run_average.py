"""The average of a run's weights, taken after the steps or epochs that its recipe says."""

from __future__ import annotations

from torch import nn

from repfold.optim.averages import Average
from repfold.train.averaging import Averaging


class RunAverage(Average):
    """An average that knows when it is due; ``progress`` is the share of the run that is done."""

    def __init__(self, network: nn.Module, settings: Averaging) -> None:
        super().__init__(network, decay=settings.decay)
        self.settings = settings

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Take the weights in after a step that began at ``progress``, if steps count by then."""
        if not self.settings.each_epoch and progress >= self.settings.start:
            self.update(network)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Take the weights in after an epoch that ended at ``progress``, if epochs count by then."""
        if self.settings.each_epoch and progress > self.settings.start:
            self.update(network)
