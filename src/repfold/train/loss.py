"""Losses of classification on hard and soft targets; all of them means over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from repfold.errors import RepFoldError


def cross_entropy(
    logits_BK: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights_K: Tensor | None = None
) -> Tensor:
    """Return the mean of -Σ_k w_k · t_k · log softmax(logits)_k, t the smoothed targets, w the weights, if given.

    The mean is over the batch, not over the weights that happen to be in it as PyTorch's is: a batch's gradient is then
    an unbiased one of the weighted loss of all images.

    ``targets``: class numbers int64 [B], or probabilities [B, K] (mixed batches); each becomes
    (1 - ε) · target + ε/K with ε = ``smoothing`` (Szegedy et al. 2016), soft ones too, and is never sent through a
    softmax. Computed in float32 at least.

    Raises: RepFoldError when smoothing is not in [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise RepFoldError(f"Label smoothing of {smoothing} must lie in [0, 1): 0 is none, 0.1 usual.")
    logits_BK = at_least_float32(logits_BK)
    targets = targets.to(logits_BK.dtype) if targets.is_floating_point() else targets
    if weights_K is None:
        return functional.cross_entropy(logits_BK, targets, label_smoothing=smoothing)
    weights_K = weights_K.to(logits_BK.dtype)
    summed = functional.cross_entropy(logits_BK, targets, weight=weights_K, label_smoothing=smoothing, reduction="sum")
    return summed / len(logits_BK)


def balanced_weights(labels_N: Tensor, classes: int) -> Tensor:
    """Return float32 [K], N / (K · N_k): all images of a class together weigh N/K, and all images N.

    A class without images weighs 0.
    """
    counts_K = torch.bincount(labels_N, minlength=classes)
    weights_K = len(labels_N) / (classes * counts_K.clamp(min=1).float())
    return weights_K.where(counts_K > 0, 0.0)


def distillation(logits_BK: Tensor, teacher_BK: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Return T² · KL(softmax(teacher/T) || softmax(logits/T)), a mean over the batch (Hinton et al. 2015).

    T² keeps the gradient's size independent of T = ``temperature``. The teacher's logits get no gradient.

    Raises: RepFoldError for a temperature not above 0, or a teacher with other classes.
    """
    if temperature <= 0:
        raise RepFoldError(f"Distillation needs a temperature above 0, not {temperature}: 1 to 10 are usual.")
    if logits_BK.shape != teacher_BK.shape:
        raise RepFoldError(
            f"The teacher's logits are {list(teacher_BK.shape)}, the network's {list(logits_BK.shape)}: "
            "distillation needs the same classes."
        )
    student = functional.log_softmax(at_least_float32(logits_BK) / temperature, dim=1)
    teacher = functional.log_softmax(at_least_float32(teacher_BK.detach()) / temperature, dim=1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def distilled(
    loss: Tensor, logits_BK: Tensor, teacher_BK: Tensor, *, weight: float, temperature: float = 4.0
) -> Tensor:
    """Return (1 - weight) · ``loss`` + weight · distillation.

    Raises: RepFoldError when the weight is not in [0, 1].
    """
    if not 0 <= weight <= 1:
        raise RepFoldError(f"The weight of distillation must lie in [0, 1], not {weight}.")
    return (1 - weight) * loss + weight * distillation(logits_BK, teacher_BK, temperature=temperature)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32 when it is in half precision, else as it is."""
    return tensor.float() if tensor.element_size() < 4 else tensor
