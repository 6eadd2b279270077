"""Fine-tuning: start a network from another one's weights, all but a classifier of other classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold.counted import counted
from repfold.errors import RepFoldError
from repfold.models.create import architecture_of
from repfold.models.pretrained import Pretrained, architecture_told, locate, read
from repfold.models.recognise import with_counters
from repfold.modules import differences, shapes

# A classifier is one of these: other layers have a size for other reasons.
_CLASSIFIERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Initialised:
    """What ``initialise`` did.

    Attributes:
        source: what the weights are of, as it was given.
        loaded: the state_dict names that it loaded.
        skipped: those of classifiers that it left fresh.
        shapes: of each of these, the shape here and that in the file, which may have none.
        why: for what reason they were left.
        code_base: whose names were exchanged for ours; "" where they were ours.
        licence: as stated where the weights came from, or "".
        commit: of the repository that they came from, or "".
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    shapes: Mapping[str, tuple[Shape, Shape | None]]
    why: str = ""
    code_base: str = ""
    licence: str = ""
    commit: str = ""

    def __str__(self) -> str:
        said = f"{counted(len(self.loaded), 'tensor')} loaded from {self.source}"
        if self.code_base:
            said += f", renamed from the layout of {_CODE_BASES.get(self.code_base, self.code_base)}"
        if self.skipped:
            fresh = ", ".join(f"{name} {_told(*self.shapes[name])}" for name in self.skipped)
            said += f"; fresh: {fresh} ({self.why})"
        return said + (f"; licence of the weights: {self.licence}" if self.licence else "")

    def to_dict(self) -> dict[str, Any]:
        """What a run records of it."""
        kept = {"source": self.source, "tensors": len(self.loaded), "fresh": list(self.skipped)}
        return {**kept, "layout": self.code_base, "licence": self.licence, "commit": self.commit}


_CODE_BASES = {"original": "the authors", "apple": "Apple"}


def initialise(
    network: nn.Module, source: str | os.PathLike[str] | Pretrained, *, classes: Sequence[str] | None = None
) -> Initialised:
    """Load trained weights into ``network``, in place; ``source`` is as for ``pretrained.locate``.

    Layers whose number of outputs is the number of classes, in both networks, are left as they are when these numbers
    differ, when the weights have no such layers, or when they are of other classes than ``classes``, where both are
    known. Weights of an unknown network will do, if their names and shapes fit.

    Raises: RepFoldError that names both networks when anything else differs; the network is then untouched.
    """
    found = source if isinstance(source, Pretrained) else read(locate(source))
    own, state = shapes(network.state_dict()), _with_counters(network, found.state)
    given = shapes(state)
    classifiers = _classifier_keys(network)
    differing = {key for key in own.keys() & given.keys() if own[key] != given[key]}
    sizes = {(own[key][:1], given[key][:1]) for key in differing}
    only_classes = len(sizes) <= 1 and all(key in classifiers and own[key][1:] == given[key][1:] for key in differing)
    lacking = _lacking_classifier(network, own.keys() - given.keys())
    if own.keys() - lacking != given.keys() or not only_classes:
        raise RepFoldError(
            f"{found.located.file} holds {_named(found)}, but the network to start is {_name(network)}: "
            f"{differences(own, given)}. {_advice(found)}"
        )
    why = "another number of classes" if differing else "the weights have no classifier"
    skipped = differing | lacking
    if not skipped and _other_classes(found, classes):
        width = len(found.description.classes or ())
        skipped = {key for key in classifiers if own[key][0] == width}
        why = "other classes"
    loaded = sorted(own.keys() - skipped)
    network.load_state_dict({key: state[key] for key in loaded}, strict=False)
    return Initialised(
        source=found.located.source,
        loaded=tuple(loaded),
        skipped=tuple(sorted(skipped)),
        shapes={key: (own[key], given.get(key)) for key in skipped},
        why=why if skipped else "",
        code_base=found.code_base,
        licence=found.located.licence,
        commit=found.located.commit,
    )


def _with_counters(network: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch counters of norms, which old checkpoints lack, added where the network has them."""
    own = network.state_dict()
    return {key: value for key, value in with_counters(dict(state)).items() if key in own or key in state}


def _lacking_classifier(network: nn.Module, lacking: set[str]) -> set[str]:
    """``lacking`` where it is the last classifier and nothing else, or nothing."""
    keys = [f"{name}.{key}".lstrip(".") for name, key in _classifier_layers(network)]
    last = keys[-1].rpartition(".")[0] if keys else ""
    return lacking if lacking and lacking == {key for key in keys if key.rpartition(".")[0] == last} else set()


def _other_classes(found: Pretrained, classes: Sequence[str] | None) -> bool:
    known = found.description.classes
    return known is not None and classes is not None and tuple(known) != tuple(classes)


def _classifier_layers(network: nn.Module) -> list[tuple[str, str]]:
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _CLASSIFIERS)]
    return [(name, key) for name, layer in layers for key, _ in layer.named_parameters(recurse=False)]


def _classifier_keys(network: nn.Module) -> set[str]:
    return {f"{name}.{key}".lstrip(".") for name, key in _classifier_layers(network)}


def _told(here: Shape, there: Shape | None) -> str:
    return f"{list(here)}" if there is None or there == here else f"{list(here)} for {list(there)}"


def _name(network: nn.Module) -> str:
    architecture = architecture_of(network)
    return architecture.name if architecture else type(network).__name__


def _named(found: Pretrained) -> str:
    """The name of the weights' network, for messages."""
    architecture = found.description.architecture
    if architecture is not None:
        return f"{architecture.name} in {found.description.form} form"
    if told := architecture_told(found.located):
        return f"a network called {told}"
    return "tensors of an unnamed network"


def _advice(found: Pretrained) -> str:
    architecture = found.description.architecture
    if architecture is not None and found.description.form == "folded":
        return (
            "Start from a file of the same architecture in train form; what is folded can start the plain network "
            "alone: --model-options block=plain,norm=false."
        )
    return "Start from a file of the same architecture (train form, of any number of classes)."
