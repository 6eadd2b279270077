"""From a recipe to everything that a training needs: data, network, optimizer, transforms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from repfold import models, norms
from repfold.data import Loader, Source
from repfold.errors import RepFoldError
from repfold.expand import ExpandWarning, expand
from repfold.fold import OnlineFold
from repfold.models import Description, Preprocessing
from repfold.modules import eval_mode
from repfold.optim.groups import Groups, parameter_groups
from repfold.optim.lookahead import Lookahead
from repfold.schedule import ScheduleWarning
from repfold.train import distributed
from repfold.train.batches import BatchTransform
from repfold.train.distill import load_teacher
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Note
from repfold.train.machine import Machine
from repfold.train.objective import Objective
from repfold.train.open_data import make_loaders, open_data, preprocessing_of
from repfold.train.plausibility import unusual_settings
from repfold.train.regularise import equivalent_l2_of
from repfold.train.repopt import Reparameterized, start_target
from repfold.train.settings import Settings
from repfold.train.step import RunAverage, StepParts


class Loaders(NamedTuple):
    """Of the training images, the validation images, and the clean sample of training images."""

    train: Loader
    val: Loader
    train_sample: Loader


@dataclass(frozen=True)
class Assembly:
    """What a run is made of: ``parts`` is what its steps need, the rest what surrounds them.

    ``groups``: the parameters that decay, and those that do not.
    """

    settings: Settings
    machine: Machine
    ranks: Ranks
    source: Source
    description: Description
    parts: StepParts
    loaders: Loaders
    reparameterized: Reparameterized | None
    groups: Groups

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return self.parts.steps_per_epoch

    @property
    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.parts.network.parameters())


def assemble(
    settings: Settings,
    machine: Machine,
    ranks: Ranks,
    emit: Listener,
    *,
    resumed: Path | None = None,
    trust: bool = False,
) -> Assembly:
    """Open the data, build the network and all that trains it.

    ``resumed``: the directory of the run to go on with; ``trust``: run the code that a teacher's file names.

    Raises: RepFoldError for anything in the recipe that cannot be had: data, network, weights, sizes.
    """
    source = open_data(settings.data, emit)
    preprocessing = preprocessing_of(source, settings.data.seed)
    network, reparameterized = _network(settings, source, emit, resumed)
    network, note = distributed.synchronise_batch_norm(network, ranks, machine.device)
    if note:
        emit(Note(note))
    machine.prepare(network)
    shape = (2, source.channels, source.image_size, source.image_size)
    _check_runs(network, settings.model.name, shape, len(source.classes), machine)
    if not settings.model.online_fold:  # which runs convolutions of its own
        machine.specialise(network, shape)
    norms.check_batch(network, settings.batch // ranks.world)
    objective = _objective(settings, network, source, preprocessing, machine, trust)
    groups = parameter_groups(network, exempt=objective.penalty.kernels if objective.penalty else frozenset())
    loaders = Loaders(*make_loaders(settings, source, machine, ranks))
    steps = loaders.train.steps_per_epoch
    for sentence in (*_schedule_warnings(settings, steps), *unusual_settings(settings, steps)):
        emit(Note(sentence))
    forward: nn.Module = network
    if settings.model.online_fold:
        forward = OnlineFold(network, torch.rand(shape, device=machine.device))
    parts = StepParts(
        network=network,
        forward=ranks.wrap(forward, machine.device),
        optimizer=_optimizer(settings, groups, machine, reparameterized),
        scaler=machine.scaler(),
        objective=objective,
        transform=BatchTransform(settings, source.crop, preprocessing, len(source.classes), machine, ranks),
        steps_per_epoch=steps,
        average=RunAverage(network, settings.averaging) if settings.averaging else None,
        max_norm=settings.optimizer.max_norm,
    )
    architecture = settings.model.architecture(len(source.classes), source.channels)
    description = Description(architecture, source.classes, preprocessing)
    return Assembly(settings, machine, ranks, source, description, parts, loaders, reparameterized, groups)


def _network(
    settings: Settings, source: Source, emit: Listener, resumed: Path | None
) -> tuple[nn.Module, Reparameterized | None]:
    model = settings.model
    options = {**model.options, "norm": model.norm} if model.norm else model.options
    torch.manual_seed(settings.seed)
    network = models.create(
        model.name,
        num_classes=len(source.classes),
        preset=model.preset,
        in_channels=source.channels,
        **options,
    )
    reparameterized = start_target(network, model, resumed, emit)
    if model.init:
        emit(Note(str(models.initialise(network, model.init))))
    if model.expand:  # a trained network keeps its function; a new one begins as the structure's paper has it
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ExpandWarning)
            network = expand(network, model.expand, fresh=not model.init)
        for warning in warned:
            emit(Note(str(warning.message)))
    return network.train(), reparameterized


def _objective(
    settings: Settings,
    network: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    machine: Machine,
    trust: bool,
) -> Objective:
    teacher = None
    if settings.loss.teacher:
        teacher = load_teacher(settings.loss.teacher, source.classes, preprocessing, machine, trust=trust)
    penalty = equivalent_l2_of(network) if settings.optimizer.custom_l2 else None
    return Objective(settings.loss, teacher, penalty, settings.optimizer.weight_decay)


def _optimizer(
    settings: Settings, groups: Groups, machine: Machine, reparameterized: Reparameterized | None
) -> Optimizer:
    update = settings.optimizer
    optimizer = update.algorithm.make(
        groups.for_optimizer(update.weight_decay),
        settings.learning_rate.base,
        fused=machine.fused,
        rules=reparameterized.rules if reparameterized else None,
    )
    if not update.lookahead:
        return optimizer
    return Lookahead(optimizer, every=update.lookahead, alpha=update.lookahead_alpha)


@torch.no_grad()
def _check_runs(network: nn.Module, name: str, shape: Sequence[int], classes: int, machine: Machine) -> None:
    """Run the network once, in eval mode so that nothing of it changes, on images of the ``shape`` it will see.

    Raises: RepFoldError when it cannot run on it or does not return logits of the classes.
    """
    try:
        with eval_mode(network), machine.autocast():
            logits = network(torch.zeros(shape, device=machine.device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise RepFoldError(
            f"{name} cannot run on images {list(shape)}: {str(error).splitlines()[0]} "
            "Give an image_size, channels or preset that suit it."
        ) from error
    found = list(getattr(logits, "shape", [])) or type(logits).__name__
    if found != [shape[0], classes]:
        raise RepFoldError(
            f"{name} returns {found} for {shape[0]} images; training needs logits [{shape[0]}, {classes}], one "
            "for each class of the data. A factory gets their number as num_classes."
        )


def _schedule_warnings(settings: Settings, steps_per_epoch: int) -> list[str]:
    """Raise now what the schedule would raise at the first step; return what it warns of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ScheduleWarning)
        settings.lr(0, steps_per_epoch)
    return [str(warning.message) for warning in warned]
