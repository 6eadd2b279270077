"""Fine-tuning: start a network from another one's weights, all but a classifier of another size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from repfold.errors import RepFoldError
from repfold.models import weights
from repfold.models.create import architecture_of
from repfold.models.file import find_file, read_description
from repfold.modules import differences, shapes

# A classifier is one of these: other layers have a size for other reasons.
_CLASSIFIERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Initialised:
    """What ``initialise`` did: the state_dict names that it loaded, and those of classifiers that it left fresh."""

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]

    def __str__(self) -> str:
        done = f"{len(self.loaded)} tensors loaded from {self.source}"
        return f"{done}; fresh: {', '.join(self.skipped)} (another number of classes)" if self.skipped else done


def initialise(network: nn.Module, path: str | os.PathLike[str]) -> Initialised:
    """Load the weights of the model file or run directory ``path`` into ``network``, in place.

    Layers whose number of outputs is the number of classes, in both networks, are left as they are when these numbers
    differ. A safetensors file without a description of its network will do, if its tensors fit.
    Raises: RepFoldError that names both networks when anything else differs; the network is then untouched.
    """
    file = find_file(path)
    contents = weights.read_header(file)
    own = shapes(network.state_dict())
    differing = {key for key in own.keys() & contents.shapes.keys() if own[key] != contents.shapes[key]}
    sizes = {(own[key][:1], contents.shapes[key][:1]) for key in differing}
    classifiers = _classifier_keys(network)
    only_classes = len(sizes) <= 1 and all(
        key in classifiers and own[key][1:] == contents.shapes[key][1:] for key in differing
    )
    if own.keys() != contents.shapes.keys() or not only_classes:
        raise RepFoldError(
            f"{file} holds {_named(file)}, but the network to start is {_name(network)}: "
            f"{differences(own, contents.shapes)}. Start from a file of the same architecture (train form, of any "
            "number of classes)."
        )
    tensors = weights.read_tensors(file)
    loaded = sorted(own.keys() - differing)
    network.load_state_dict({key: tensors[key] for key in loaded}, strict=False)
    return Initialised(str(file), tuple(loaded), tuple(sorted(differing)))


def _classifier_keys(network: nn.Module) -> set[str]:
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _CLASSIFIERS)]
    return {f"{name}.{key}".lstrip(".") for name, layer in layers for key, _ in layer.named_parameters(recurse=False)}


def _name(network: nn.Module) -> str:
    architecture = architecture_of(network)
    return architecture.name if architecture else type(network).__name__


def _named(file: Path) -> str:
    """The name of a file's network, for messages."""
    if "repfold" not in weights.read_header(file).metadata:
        return "tensors of an unnamed network"
    description = read_description(file)
    named = description.architecture.name if description.architecture else "a network without a name"
    return f"{named} in {description.form} form"
