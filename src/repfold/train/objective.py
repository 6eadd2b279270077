"""What training minimises: the loss of the targets, of auxiliary classifiers and of a teacher, and penalties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from repfold.train.distill import Teacher
from repfold.train.loss import cross_entropy, distilled
from repfold.train.regularise import EquivalentL2


@dataclass(frozen=True)
class LossSettings:
    """The terms of the loss.

    ``class_weights``: "balanced", or "none" where every image counts the same.
    ``teacher``: a model file or run to learn from, "" for none; its loss counts ``distill_weight``, that of the labels
    the rest. ``auxiliary_weight``: how much the loss of each auxiliary classifier counts.
    """

    label_smoothing: float = 0.0
    class_weights: str = "none"
    auxiliary_weight: float = 0.1
    teacher: str = ""
    distill_weight: float = 0.5
    distill_temperature: float = 4.0


@dataclass(frozen=True)
class Objective:
    """``weight_decay`` is that of ``penalty``, the L2 that the optimizer does not do.

    ``class_weights_K``: what the labels' loss of an image of each class counts; None: 1.
    """

    settings: LossSettings = LossSettings()
    teacher: Teacher | None = None
    penalty: EquivalentL2 | None = None
    weight_decay: float = 0.0
    class_weights_K: Tensor | None = None

    def __call__(self, outputs: Any, targets: Tensor, x_NCHW: Tensor) -> Tensor:
        """Return the loss of ``outputs``: logits [B, K], or (logits, auxiliary logits, ...).

        ``targets``: int64 [B], or probabilities [B, K]; ``x_NCHW``: the input that gave the outputs.
        """
        logits_BK, *auxiliary = outputs if isinstance(outputs, tuple | list) else (outputs,)
        settings = self.settings
        of_labels = partial(
            cross_entropy, targets=targets, smoothing=settings.label_smoothing, weights_K=self.class_weights_K
        )
        loss = of_labels(logits_BK)
        if self.teacher is not None:
            weight, temperature = settings.distill_weight, settings.distill_temperature
            loss = distilled(loss, logits_BK, self.teacher(x_NCHW), weight=weight, temperature=temperature)
        for other_BK in auxiliary:
            loss = loss + settings.auxiliary_weight * of_labels(other_BK)
        return loss if self.penalty is None else loss + self.penalty(self.weight_decay)


@torch.no_grad()
def seen_top1(outputs: Any, targets: Tensor) -> Tensor:
    """Return the share of the batch that is classified right, a scalar in 0..1; of mixed images the weighted share.

    An image that is λ of one class and 1 - λ of another counts λ, 1 - λ or 0.
    """
    logits_BK = outputs[0] if isinstance(outputs, tuple | list) else outputs
    predicted_B1 = logits_BK.detach().argmax(dim=1, keepdim=True)
    if targets.is_floating_point():
        return targets.gather(1, predicted_B1).mean()
    share: Tensor = (predicted_B1[:, 0] == targets).float().mean()
    return share
