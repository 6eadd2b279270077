"""The teacher of a distillation: any network of a model file or a run, given the images as it was trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from repfold import models
from repfold.errors import RepFoldError, few, first_line
from repfold.models import Preprocessing
from repfold.train.machine import Machine


@dataclass(frozen=True)
class Teacher:
    """``network`` in eval mode on the device; ``scale_C11`` and ``shift_C11`` turn the student's input into its own."""

    network: nn.Module
    scale_C11: Tensor
    shift_C11: Tensor
    image_size: int
    machine: Machine

    @torch.no_grad()
    def __call__(self, x_NCHW: Tensor) -> Tensor:
        """Return the logits [B, K] for the student's input, resized when the teacher sees images of another size."""
        own_NCHW = x_NCHW * self.scale_C11.to(x_NCHW.dtype) + self.shift_C11.to(x_NCHW.dtype)
        if own_NCHW.shape[-1] != self.image_size:
            own_NCHW = functional.interpolate(
                own_NCHW, (self.image_size,) * 2, mode="bilinear", align_corners=False, antialias=True
            )
        with self.machine.autocast():
            logits_NK: Tensor = self.network(own_NCHW)
            return logits_NK


def load_teacher(
    path: str, classes: Sequence[str], student: Preprocessing, machine: Machine, *, trust: bool = False
) -> Teacher:
    """Load the network of a model file or run directory (there the folded one, which is quicker) as a teacher.

    ``trust``: run the code that the file names.

    Raises: RepFoldError when it has other classes or channels than the student's data, or gives other logits.
    """
    model = models.load_model(path, form="fastest", trust=trust)
    described = model.description
    if described.classes is not None and tuple(described.classes) != tuple(classes):
        raise RepFoldError(
            f"The teacher {path} has {len(described.classes)} classes ({few(described.classes)}), the data "
            f"{len(classes)} ({few(classes)}): distillation needs the same classes in the same order."
        )
    own = described.preprocessing or student
    if own.channels != student.channels:
        raise RepFoldError(
            f"The teacher {path} sees images of {own.channels} channels, the network of {student.channels}: "
            f"set channels to {own.channels}."
        )
    for parameter in model.network.parameters():
        parameter.requires_grad_(False)
    teacher = Teacher(
        machine.prepare(model.network.eval()),
        *_between(student, own, machine.device),
        image_size=own.image_size,
        machine=machine,
    )
    _check_logits(path, teacher, student, len(classes))
    return teacher


def _between(student: Preprocessing, teacher: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """x = (p - m)/s, so that (p - m')/s' = x·s/s' + (m - m')/s'."""
    (mean, std), (own_mean, own_std) = (
        (torch.tensor(of.mean, device=device), torch.tensor(of.std, device=device)) for of in (student, teacher)
    )
    return (std / own_std).view(-1, 1, 1), ((mean - own_mean) / own_std).view(-1, 1, 1)


def _check_logits(path: str, teacher: Teacher, student: Preprocessing, classes: int) -> None:
    size = student.image_size
    probe = torch.zeros(2, student.channels, size, size, device=teacher.machine.device, dtype=teacher.machine.dtype)
    try:
        shape = list(teacher(probe).shape)
    except (RuntimeError, ValueError) as error:
        raise RepFoldError(f"The teacher {path} cannot run on the images: {first_line(error)}") from error
    if shape != [2, classes]:
        raise RepFoldError(f"The teacher {path} returns {shape} for 2 images of data with {classes} classes.")
