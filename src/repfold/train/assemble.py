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
from repfold.errors import RepFoldError, first_line
from repfold.expand import ExpandWarning, expand
from repfold.fold import OnlineFold
from repfold.models import Description, Initialised, Preprocessing, Pretrained
from repfold.modules import eval_mode
from repfold.optim.groups import Groups, parameter_groups
from repfold.optim.layer_rates import classifier_of, rate_scales, summary
from repfold.optim.lookahead import Lookahead
from repfold.schedule import ScheduleWarning
from repfold.train import distributed
from repfold.train.batches import BatchTransform
from repfold.train.distill import load_teacher
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Note
from repfold.train.head_first import HeadFirst
from repfold.train.loss import balanced_weights
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


class LayerRates(NamedTuple):
    """What rates are multiplied by, if not by 1; the ``classifier``, where anything depends on which it is."""

    classifier: frozenset[nn.Parameter] = frozenset()
    scales: dict[nn.Parameter, float] | None = None
    summary: str = ""


@dataclass(frozen=True)
class Assembly:
    """What a run is made of: ``parts`` is what its steps need, the rest what surrounds them.

    ``groups``: the parameters that decay, and those that do not; ``rates``: of their layers, where they differ;
    ``initialised``: what was loaded to start from, if anything.
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
    rates: LayerRates
    initialised: Initialised | None

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
    source: Source | None = None,
) -> Assembly:
    """Open the data, build the network and all that trains it.

    ``resumed``: the directory of the run to go on with; ``trust``: run the code that a teacher's file names;
    ``source``: images to take instead of the data that the settings name.

    Raises: RepFoldError for anything in the recipe that cannot be had: data, network, weights, sizes.
    """
    source = source or open_data(settings.data, emit)
    settings = settings.for_images(len(source.train))
    pretrained = models.read_pretrained(models.locate(settings.model.init)) if settings.model.init else None
    known = pretrained.description.preprocessing if pretrained else None
    preprocessing = preprocessing_of(source, settings.normalisation, known, settings.data.seed)
    network, reparameterized, initialised = _network(settings, source, pretrained, emit, resumed)
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
    rates = _layer_rates(settings, network, len(source.classes))
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
        optimizer=_optimizer(settings, groups, rates, machine, reparameterized),
        scaler=machine.scaler(),
        objective=objective,
        transform=BatchTransform(settings, source.crop, preprocessing, len(source.classes), machine, ranks),
        steps_per_epoch=steps,
        average=RunAverage(network, settings.averaging) if settings.averaging else None,
        max_norm=settings.optimizer.max_norm,
        head_first=_head_first(settings, network, rates.classifier, steps, ranks),
    )
    architecture = settings.model.architecture(len(source.classes), source.channels)
    description = Description(architecture, source.classes, preprocessing)
    return Assembly(
        settings, machine, ranks, source, description, parts, loaders, reparameterized, groups, rates, initialised
    )


def _network(
    settings: Settings, source: Source, pretrained: Pretrained | None, emit: Listener, resumed: Path | None
) -> tuple[nn.Module, Reparameterized | None, Initialised | None]:
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
    initialised = models.initialise(network, pretrained, classes=source.classes) if pretrained else None
    if initialised:
        emit(Note(str(initialised)))
    if model.expand:  # a trained network keeps its function; a new one begins as the structure's paper has it
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ExpandWarning)
            network = expand(network, model.expand, fresh=not model.init)
        for warning in warned:
            emit(Note(str(warning.message)))
    return network.train(), reparameterized, initialised


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
    weights_K = None
    if settings.loss.class_weights == "balanced":
        weights_K = balanced_weights(source.train.labels, len(source.classes)).to(machine.device)
    return Objective(settings.loss, teacher, penalty, settings.optimizer.weight_decay, weights_K)


def _layer_rates(settings: Settings, network: nn.Module, classes: int) -> LayerRates:
    varied = (settings.layer_decay, settings.head_rate) != (1.0, 1.0)
    if not varied and not settings.head_first.value:
        return LayerRates()
    classifier = classifier_of(network, classes)
    scales = rate_scales(network, classifier, layer_decay=settings.layer_decay, head_rate=settings.head_rate)
    return LayerRates(classifier, scales, summary(scales, classifier) if varied else "")


def _head_first(
    settings: Settings, network: nn.Module, classifier: frozenset[nn.Parameter], steps_per_epoch: int, ranks: Ranks
) -> HeadFirst | None:
    steps = settings.head_first.steps(settings.epochs * steps_per_epoch, steps_per_epoch)
    return HeadFirst(network, classifier, steps, together=ranks.world > 1) if steps else None


def _optimizer(
    settings: Settings,
    groups: Groups,
    rates: LayerRates,
    machine: Machine,
    reparameterized: Reparameterized | None,
) -> Optimizer:
    update = settings.optimizer
    optimizer = update.algorithm.make(
        groups.for_optimizer(update.weight_decay, rates.scales, rates.classifier),
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
            f"{name} cannot run on images {list(shape)}: {first_line(error)} "
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
