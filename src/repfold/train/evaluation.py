"""Evaluation: each image once, and the metrics of a confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from repfold.data import Loader
from repfold.data.transforms import to_input
from repfold.errors import RepFoldError
from repfold.models import Preprocessing
from repfold.modules import eval_mode
from repfold.train.distributed import Ranks


@dataclass(frozen=True)
class Metrics:
    """``loss`` in nats; ``top1``, ``top5`` and the means over classes ``precision`` and ``recall`` in percent.

    ``confusion_TP``: int64 [K, K], rows the true class, columns the predicted one.
    """

    images: int
    loss: float
    top1: float
    top5: float
    precision: float
    recall: float
    confusion_TP: Tensor


@torch.no_grad()
def evaluate(
    network: nn.Module,
    loader: Loader,
    preprocessing: Preprocessing,
    device: torch.device | str = "cpu",
    *,
    context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ranks: Ranks | None = None,
    channels_last: bool = True,
) -> Metrics:
    """Evaluate ``network`` on the images of ``loader`` (one with ``train=False``, which gives each image once).

    The network is run in eval mode, and each of its modules left in the mode it was in. ``context`` makes what to run
    it in, such as autocast. With ``ranks`` each process evaluates its share, and all get the metrics of the whole.

    Raises: RepFoldError when there are no images, or labels beyond the network's classes.
    """
    device = torch.device(device)
    sums = torch.zeros(3, dtype=torch.float64)  # images, loss, hits among five
    confusion_TP: Tensor | None = None
    with eval_mode(network):
        for x_uint8, labels in loader.epoch(0):
            x_NCHW = to_input(
                x_uint8.to(device, non_blocking=True),
                preprocessing.mean,
                preprocessing.std,
                channels_last=channels_last,
            )
            labels_B = labels.to(device, non_blocking=True)
            with context():
                logits_BK = network(x_NCHW)
            logits_BK = logits_BK.float()
            classes = logits_BK.shape[1]
            _check_labels(labels, classes)
            loss = functional.cross_entropy(logits_BK, labels_B, reduction="sum")
            ranked_B5 = logits_BK.topk(min(5, classes), dim=1).indices
            hits = (ranked_B5 == labels_B[:, None]).any(dim=1).sum()
            sums += torch.stack([torch.tensor(float(len(labels))), loss.cpu(), hits.cpu()]).double()
            cells = torch.bincount(labels_B * classes + ranked_B5[:, 0], minlength=classes**2).view(classes, classes)
            confusion_TP = cells if confusion_TP is None else confusion_TP + cells
    return _metrics(sums, confusion_TP, ranks or Ranks())


def _metrics(sums: Tensor, confusion_TP: Tensor | None, ranks: Ranks) -> Metrics:
    # A process without images does not know the number of classes; it learns it from the others.
    classes = int(max(ranks.gather(len(confusion_TP) if confusion_TP is not None else 0)))
    if confusion_TP is None:
        confusion_TP = torch.zeros(classes, classes, dtype=torch.int64)
    images, loss, hits = ranks.add_up(sums).tolist()
    if not images:
        raise RepFoldError("There are no images to evaluate on.")
    confusion_TP = ranks.add_up(confusion_TP)
    right_K = confusion_TP.diagonal().double()
    return Metrics(
        images=int(images),
        loss=loss / images,
        top1=100 * float(right_K.sum()) / images,
        top5=100 * hits / images,
        precision=100 * _mean_share(right_K, confusion_TP.sum(dim=0), confusion_TP),
        recall=100 * _mean_share(right_K, confusion_TP.sum(dim=1), confusion_TP),
        confusion_TP=confusion_TP,
    )


def _mean_share(right_K: Tensor, of_K: Tensor, confusion_TP: Tensor) -> float:
    """The mean of right/of over the classes that occur, as truth or as prediction; 0/0 counts as 0."""
    occurs_K = (confusion_TP.sum(dim=0) + confusion_TP.sum(dim=1)) > 0
    return float((right_K / of_K.clamp(min=1))[occurs_K].mean())


def _check_labels(labels: Tensor, classes: int) -> None:
    if int(labels.max()) >= classes:
        raise RepFoldError(
            f"The data has a class number {int(labels.max())}, but the network has only {classes} classes: "
            "evaluate on data with the classes that it was trained on."
        )
