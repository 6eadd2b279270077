"""The mistakes that are worth looking at: the record of them, with small pictures, that a run's page shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from repfold import atomic, run_files
from repfold.data import Loader
from repfold.data.collection import Images
from repfold.data.transforms import to_input
from repfold.deploy.class_activation import class_activation
from repfold.errors import RepFoldError
from repfold.graph.module import GraphNetwork
from repfold.models import Description, Preprocessing
from repfold.modules import eval_mode

MOST_IMAGES = 10_000  # looked at; of more, so many are drawn
SHOWN = 12  # of each kind
_SIDE = 112  # pixels of a thumbnail; smaller images stay as they are
_BATCH = 64
_HUE, _OPAQUE = (255, 92, 0), 225  # of the maps


@dataclass(frozen=True)
class Answers:
    """What a network says of images: of each its class by number, the class predicted, and their probabilities."""

    true_N: np.ndarray
    predicted_N: np.ndarray
    true_probability_N: np.ndarray
    probability_N: np.ndarray

    @property
    def wrong(self) -> np.ndarray:
        """The indices of the images whose class was not predicted."""
        return np.flatnonzero(self.predicted_N != self.true_N)

    def worst(self, most: int) -> list[int]:
        """Return the mistakes whose own class seemed least probable, those of the largest loss."""
        order = np.argsort(self.true_probability_N[self.wrong], kind="stable")
        return [int(index) for index in self.wrong[order][:most]]

    def most_confident(self, most: int) -> list[int]:
        """Return the mistakes whose wrong class seemed most probable."""
        order = np.argsort(-self.probability_N[self.wrong], kind="stable")
        return [int(index) for index in self.wrong[order][:most]]


def write_mistakes(directory: Path, network: nn.Module, description: Description, images: Images) -> tuple[int, int]:
    """Write ``mistakes.json`` of a run: the mistakes of ``network`` on ``images``; how many, of how many images.

    Raises: RepFoldError when the network does not say how it sees images, or has fewer classes than the data;
    NotWritten when the file cannot be written.
    """
    seen = description.preprocessing
    if seen is None or description.classes is None:
        raise RepFoldError("the network does not say what it sees, or which classes: save it with a description.")
    looked_at = images.sample(MOST_IMAGES)
    answers = answers_of(network, looked_at, seen)
    worst = answers.worst(SHOWN)
    confident = [index for index in answers.most_confident(SHOWN) if index not in worst]
    shown = [*worst, *confident]
    content = {
        "classes": list(description.classes),
        "images": len(looked_at),
        "of": len(images),
        "wrong": len(answers.wrong),
        "worst": list(range(len(worst))),
        "most_confident": [shown.index(index) for index in answers.most_confident(SHOWN)],
        "shown": _described(network, looked_at, answers, shown, seen),
    }
    atomic.write_json(directory / run_files.MISTAKES, content)
    return len(answers.wrong), len(looked_at)


@torch.inference_mode()
def answers_of(network: nn.Module, images: Images, seen: Preprocessing) -> Answers:
    """Return what ``network`` says of each of ``images``, in float32.

    Raises: RepFoldError when it has fewer classes than the images.
    """
    columns: list[tuple[Tensor, ...]] = []
    with eval_mode(network):
        for x_uint8, labels_B in Loader(images, _BATCH, train=False).epoch(0):
            logits_BK = network(to_input(x_uint8, seen.mean, seen.std)).float()
            if int(labels_B.max()) >= logits_BK.shape[1]:
                raise RepFoldError("the network has fewer classes than the data.")
            probabilities_BK = functional.softmax(logits_BK, dim=1)
            highest_B, predicted_B = probabilities_BK.max(dim=1)
            true_B = probabilities_BK.gather(1, labels_B[:, None])[:, 0]
            columns.append((labels_B, predicted_B, true_B, highest_B))
    return Answers(*(torch.cat(column).numpy() for column in zip(*columns, strict=True)))


def _described(
    network: nn.Module, images: Images, answers: Answers, shown: Sequence[int], seen: Preprocessing
) -> list[dict[str, Any]]:
    if not shown:
        return []
    ((x_uint8, _),) = Loader(images.subset(shown), len(shown), train=False).epoch(0)
    maps_NHW = _maps(network, to_input(x_uint8, seen.mean, seen.std), answers.predicted_N[list(shown)])
    return [
        {
            "name": images.name(index),
            "true": int(answers.true_N[index]),
            "predicted": int(answers.predicted_N[index]),
            "true_probability": float(answers.true_probability_N[index]),
            "probability": float(answers.probability_N[index]),
            "picture": _thumbnail(x_CHW),
            "map": None if map_HW is None else _shade(map_HW),
        }
        for index, x_CHW, map_HW in zip(shown, x_uint8, maps_NHW, strict=True)
    ]


def _maps(network: nn.Module, x_NCHW: Tensor, classes_N: np.ndarray) -> Sequence[Tensor | None]:
    if not isinstance(network, GraphNetwork):
        return [None] * len(x_NCHW)
    found = class_activation(network, x_NCHW, torch.from_numpy(classes_N))
    return [None] * len(x_NCHW) if found is None else list(found)


def _thumbnail(x_CHW: Tensor) -> str:
    """What the network saw, as base64 of a PNG if it is tiny, else of a JPEG of at most ``_SIDE`` pixels."""
    pixels_HWC = x_CHW.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else np.ascontiguousarray(pixels_HWC))
    if max(picture.size) <= 32:
        return _encoded(picture, "PNG", optimize=True)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return _encoded(picture, "JPEG", quality=80, optimize=True)


def _shade(map_HW: Tensor) -> str:
    """A map of 0..1 as base64 of a PNG to lay over the picture: a pixel for each place, the more opaque the higher."""
    pixels_HW4 = np.empty((*map_HW.shape, 4), dtype=np.uint8)
    pixels_HW4[..., :3] = _HUE
    pixels_HW4[..., 3] = (map_HW.numpy() * _OPAQUE).round()
    return _encoded(Image.fromarray(pixels_HW4, "RGBA"), "PNG", optimize=True)


def _encoded(picture: Image.Image, kind: str, **options: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return base64.b64encode(stream.getvalue()).decode()
