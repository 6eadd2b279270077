"""Evaluation against scikit-learn's metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from repfold.data import CropSettings, Framing, Loader, in_memory
from repfold.errors import RepFoldError
from repfold.models import Preprocessing
from repfold.train import evaluate

PREPROCESSING = Preprocessing(4, 4, (0.5,), (0.25,), 1)


class FirstPixels(nn.Module):
    """Logits that are the first pixels of the image: whatever the test wrote there."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return x_NCHW.flatten(1)[:, : self.classes]


def data(classes: int, count: int = 50, seed: int = 0) -> tuple[Loader, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    # Distinct values in each image, so that no two logits are equal.
    pixels = np.stack([draw.permutation(256)[:16] for _ in range(count)]).astype(np.uint8).reshape(count, 4, 4, 1)
    labels = draw.integers(0, classes, count)
    framing = Framing(4, 4, 1, CropSettings("centre"))
    loader = Loader(in_memory(pixels, labels, framing, square=True), 16, train=False)
    return loader, (pixels.reshape(count, 16)[:, :classes] / 255 - 0.5) / 0.25, labels


@pytest.mark.parametrize("classes", [6, 10])
def test_metrics_are_those_of_scikit_learn(classes):
    loader, logits_NK, labels = data(classes)
    found = evaluate(FirstPixels(classes), loader, PREPROCESSING)
    predicted = logits_NK.argmax(axis=1)
    numbers = range(classes)
    assert found.images == 50
    assert found.top1 == pytest.approx(100 * metrics.accuracy_score(labels, predicted))
    assert found.top5 == pytest.approx(100 * metrics.top_k_accuracy_score(labels, logits_NK, k=5, labels=numbers))
    macro = {"average": "macro", "zero_division": 0}
    assert found.precision == pytest.approx(100 * metrics.precision_score(labels, predicted, **macro))
    assert found.recall == pytest.approx(100 * metrics.recall_score(labels, predicted, **macro))
    assert found.confusion_TP.tolist() == metrics.confusion_matrix(labels, predicted, labels=numbers).tolist()
    shares = np.exp(logits_NK) / np.exp(logits_NK).sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(metrics.log_loss(labels, shares, labels=numbers), rel=1e-5)


def test_among_fewer_than_five_classes_every_guess_of_five_is_right():
    loader, _, _ = data(3)
    assert evaluate(FirstPixels(3), loader, PREPROCESSING).top5 == 100


def test_the_mode_of_the_network_is_left_as_it_was():
    loader, _, _ = data(6)
    network = nn.Sequential(nn.BatchNorm2d(1), FirstPixels(6)).train()
    before = network[0].running_mean.clone()
    evaluate(network, loader, PREPROCESSING)
    assert network.training and torch.equal(network[0].running_mean, before)


def test_a_frozen_batch_norm_stays_frozen():
    loader, _, _ = data(6)
    network = nn.Sequential(nn.BatchNorm2d(1), FirstPixels(6)).train()
    network[0].eval()
    evaluate(network, loader, PREPROCESSING)
    assert (network.training, network[0].training) == (True, False)


def test_labels_beyond_the_classes_are_refused():
    loader, _, _ = data(6)
    with pytest.raises(RepFoldError, match="only 4 classes"):
        evaluate(FirstPixels(4), loader, PREPROCESSING)
