"""From a recipe to everything that a training needs: data, network, optimizer, transforms."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import Optimizer

from repfold import models, norms
from repfold.data import Loader, Source
from repfold.errors import RepFoldError
from repfold.expand import expand
from repfold.fold import OnlineFold
from repfold.models import Architecture, Description, Preprocessing
from repfold.modules import eval_mode
from repfold.optim.averages import Average
from repfold.optim.groups import Groups, parameter_groups
from repfold.optim.lookahead import Lookahead
from repfold.schedule import Schedule, ScheduleWarning
from repfold.train import distributed
from repfold.train.batches import BatchTransform, batch_transform
from repfold.train.distill import load_teacher
from repfold.train.distributed import Ranks
from repfold.train.events import Listener, Note
from repfold.train.machine import Machine
from repfold.train.objective import Objective
from repfold.train.open_data import make_loaders, open_data, preprocessing_of
from repfold.train.plausibility import doubts
from repfold.train.recipe import Recipe
from repfold.train.regularise import equivalent_l2_of
from repfold.train.repopt import Reparameterized, make_optimizer, start_target


@dataclass(frozen=True)
class Assembly:
    """The parts of a run. ``network`` holds the weights; ``forward`` is what training calls (it, or DDP around it)."""

    recipe: Recipe
    ranks: Ranks
    machine: Machine
    source: Source
    description: Description
    preprocessing: Preprocessing
    network: nn.Module
    forward: nn.Module
    optimizer: Optimizer
    reparameterized: Reparameterized | None
    objective: Objective
    average: Average | None
    scaler: torch.amp.GradScaler
    course: Schedule
    transform: BatchTransform
    train: Loader
    val: Loader
    train_sample: Loader
    groups: tuple[str, ...]

    @property
    def steps_per_epoch(self) -> int:
        """Updates an epoch."""
        return self.train.steps_per_epoch

    @property
    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    def summary(self) -> dict[str, str]:
        """What is about to happen, for the user: label -> text."""
        source, recipe, machine = self.source, self.recipe, self.machine
        processes = f", {self.ranks.world} processes" if self.ranks.world > 1 else ""
        return {
            "data": f"{source.name}: {len(source.train):,} training and {len(source.val):,} validation images of "
            f"{len(source.classes)} classes, {source.image_size} px, crop {source.crop.kind}",
            "network": f"{recipe.model}, {self.parameters:,} parameters",
            "parameters": "; ".join(self.groups),
            "updates": f"{recipe.epochs} epochs of {self.train.steps_per_epoch} steps of {recipe.batch} images; "
            f"{recipe.optimizer}, lr {recipe.base_lr:g} · {self.course}{self._extras()}",
            "machine": f"{machine.device}, {machine.precision} ({machine.reasons['precision']}), "
            f"{'channels-last' if machine.channels_last else 'NCHW'}, "
            f"{'fused' if machine.fused else 'plain'} optimizer, {machine.threads} threads{processes}",
        }

    def _rules(self) -> str:
        if self.reparameterized is None:
            return ""
        rules = self.reparameterized.rules
        spans = [span for rule in rules if (span := rule.span())]
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
        return f"gradients of {len(rules)} layers re-parameterized, by factors of {low:.3g} to {high:.3g}"

    def _extras(self) -> str:
        recipe = self.recipe
        told = {
            f"lr {recipe.lr:g} of batch {recipe.lr_batch} scaled to {recipe.batch}": recipe.lr_batch,
            f"lookahead {recipe.lookahead}": recipe.lookahead,
            recipe.average: self.average,
            self._rules(): self.reparameterized,
            "branches folded at every step": recipe.online_fold,
            "L2 on equivalent kernels": recipe.custom_l2,
            f"filters no longer than {recipe.max_norm:g}": recipe.max_norm,
            f"taught by {recipe.teacher}": recipe.teacher,
        }
        return "".join(f"; {text}" for text, on in told.items() if on)


def assemble(
    recipe: Recipe,
    machine: Machine,
    ranks: Ranks,
    say: Listener,
    *,
    resumed: Path | None = None,
    trust: bool = False,
) -> Assembly:
    """Open the data, build the network and all that trains it.

    ``resumed``: the directory of the run to go on with; ``trust``: run the code that a teacher's file names.

    Raises: RepFoldError for anything in the recipe that cannot be had: data, network, weights, sizes.
    """
    source = open_data(recipe, say)
    preprocessing = preprocessing_of(source, recipe.seed)
    network, reparameterized = _network(recipe, source, say, resumed)
    network, note = distributed.synchronise_batch_norm(network, ranks, machine.device)
    if note:
        say(Note(note))
    machine.place(network)
    shape = (2, source.channels, source.image_size, source.image_size)
    _check_runs(network, recipe, shape, len(source.classes), machine)
    if not recipe.online_fold:  # which runs convolutions of its own
        machine.specialise(network, shape)
    norms.check_batch(network, recipe.batch // ranks.world)
    objective = _objective(recipe, network, source, preprocessing, machine, trust)
    own_decay = objective.penalty.kernels if objective.penalty else frozenset()
    groups = parameter_groups(network, exempt=own_decay)
    train, val, sample = make_loaders(recipe, source, machine, ranks)
    _check_course(recipe, train.steps_per_epoch, say)
    for doubt in doubts(recipe, train.steps_per_epoch):
        say(Note(doubt))
    averaging = recipe.averaging()
    return Assembly(
        recipe=recipe,
        ranks=ranks,
        machine=machine,
        source=source,
        description=Description(
            Architecture(recipe.model, len(source.classes), recipe.preset, source.channels, recipe.network_options()),
            source.classes,
            preprocessing,
        ),
        preprocessing=preprocessing,
        network=network,
        forward=ranks.wrap(_forward(network, recipe, source, machine), machine.device),
        optimizer=_optimizer(recipe, groups, machine, reparameterized),
        reparameterized=reparameterized,
        objective=objective,
        average=Average(network, decay=averaging.decay) if averaging else None,
        scaler=machine.scaler(),
        course=recipe.course(),
        transform=batch_transform(recipe, source.crop, preprocessing, len(source.classes), machine, ranks),
        train=train,
        val=val,
        train_sample=sample,
        groups=groups.summary,
    )


def _network(
    recipe: Recipe, source: Source, say: Listener, resumed: Path | None
) -> tuple[nn.Module, Reparameterized | None]:
    torch.manual_seed(recipe.seed)
    network = models.create(
        recipe.model,
        num_classes=len(source.classes),
        preset=recipe.preset,
        in_channels=source.channels,
        **recipe.network_options(),
    )
    reparameterized = start_target(network, recipe, resumed, say)
    if recipe.init:
        say(Note(str(models.initialise(network, recipe.init))))
    if recipe.expand:  # a trained network keeps its function; a new one begins as the structure's paper has it
        network = expand(network, recipe.expand, fresh=not recipe.init)
    return network.train(), reparameterized


def _forward(network: nn.Module, recipe: Recipe, source: Source, machine: Machine) -> nn.Module:
    """What training calls: the network, or its branches folded at every step."""
    if not recipe.online_fold:
        return network
    size = source.image_size
    return OnlineFold(network, torch.rand(2, source.channels, size, size, device=machine.device))


def _objective(
    recipe: Recipe,
    network: nn.Module,
    source: Source,
    preprocessing: Preprocessing,
    machine: Machine,
    trust: bool,
) -> Objective:
    teacher = None
    if recipe.teacher:
        teacher = load_teacher(recipe.teacher, source.classes, preprocessing, machine, trust=trust)
    return Objective(
        label_smoothing=recipe.label_smoothing,
        auxiliary_weight=recipe.auxiliary_weight,
        teacher=teacher,
        distill_weight=recipe.distill_weight,
        temperature=recipe.distill_temperature,
        penalty=equivalent_l2_of(network) if recipe.custom_l2 else None,
        weight_decay=recipe.weight_decay,
    )


def _optimizer(recipe: Recipe, groups: Groups, machine: Machine, reparameterized: Reparameterized | None) -> Optimizer:
    chosen, given = recipe.optimizer_choice(), groups.for_optimizer(recipe.weight_decay)
    if reparameterized is None:
        optimizer = chosen.make(given, recipe.base_lr, fused=machine.fused)
    else:
        optimizer = make_optimizer(chosen, given, recipe.base_lr, fused=machine.fused, rules=reparameterized.rules)
    if not recipe.lookahead:
        return optimizer
    return Lookahead(optimizer, every=recipe.lookahead, alpha=recipe.lookahead_alpha)


@torch.no_grad()
def _check_runs(network: nn.Module, recipe: Recipe, shape: Sequence[int], classes: int, machine: Machine) -> None:
    """Run the network once, in eval mode so that nothing of it changes, on images of the ``shape`` it will see.

    Raises: RepFoldError when it cannot run on it or does not return logits of the classes.
    """
    try:
        with eval_mode(network), machine.autocast():
            logits = network(torch.zeros(shape, device=machine.device))
    except (RuntimeError, ValueError, TypeError) as error:
        raise RepFoldError(
            f"{recipe.model} cannot run on images {list(shape)}: {str(error).splitlines()[0]} "
            "Give an image_size, channels or preset that suit it."
        ) from error
    found = list(getattr(logits, "shape", [])) or type(logits).__name__
    if found != [shape[0], classes]:
        raise RepFoldError(
            f"{recipe.model} returns {found} for {shape[0]} images; training needs logits [{shape[0]}, {classes}], one "
            "for each class of the data. A factory gets their number as num_classes."
        )


def _check_course(recipe: Recipe, steps_per_epoch: int, say: Listener) -> None:
    """Raise now what the schedule would raise at its first step, and tell what it warns of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ScheduleWarning)
        recipe.course()(0, steps_per_epoch, recipe.epochs)
    for warning in warned:
        say(Note(str(warning.message)))
