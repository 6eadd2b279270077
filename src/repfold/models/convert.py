"""Checkpoints of other code into model files, and back."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import fx, nn

from repfold.errors import RepFoldError
from repfold.models import weights
from repfold.models.checkpoint import read_checkpoint
from repfold.models.description import Architecture, Description, Form, Preprocessing
from repfold.models.file import read_description, save
from repfold.models.key_maps import State, from_ours
from repfold.models.recognise import family_of, read_names, skeleton

CodeBase = Literal["repfold", "original", "timm", "apple", "pytorchcv"]
_FOLDED_CONV = re.compile(r"(stem|stages\.\d+\.\d+)\.branches\..*\b(weight|bias)")

# What the published checkpoints of these families were trained with.
_IMAGENET = Preprocessing(224, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Converted:
    """What ``convert`` read and wrote."""

    path: Path
    architecture: Architecture
    form: Form
    source: str
    target: str
    tensors: int


def convert(
    source: str | os.PathLike[str], path: str | os.PathLike[str], *, to: CodeBase, preset: str | None = None
) -> Converted:
    """Write the network in ``source``, a foreign checkpoint or a model file, to ``path`` in the layout ``to``.

    "repfold" gives a model file; "original" (RepVGG's authors), "timm", "apple" (MobileOne) and "pytorchcv"
    (MobileNets) a state_dict that their code loads, as .safetensors, or with torch.save for .pt and .pth. Train form
    stays train form, folded stays folded.

    Args:
        preset: the strides of the network, which a state_dict shows only where they decide whether a block has
            an identity branch; None takes the first preset that fits, "imagenet" before "32px".

    Raises: RepFoldError when the names or shapes are of no known network, or the layout has no such family.
    """
    path = Path(path)
    if path.suffix not in {".safetensors", ".pt", ".pth"} or (to == "repfold" and path.suffix != ".safetensors"):
        known = ".safetensors" if to == "repfold" else ".safetensors, .pt or .pth"
        raise RepFoldError(f"{path}: unknown format '{path.suffix}'. The name has to end in {known}.")
    origin, description, state = _read(Path(source), preset)
    architecture = description.architecture
    assert architecture is not None
    if to == "repfold":
        save(_network(architecture, description.form, state), path, description=description)
        written = len(state)
    else:
        family = family_of(architecture.name)
        assert family is not None
        foreign = from_ours(state, family, to)
        _write_state(foreign, path)
        written = len(foreign)
    return Converted(path, architecture, description.form, origin, to, written)


def _read(source: Path, preset: str | None) -> tuple[str, Description, State]:
    """Where the file comes from, what it holds, and its tensors in our names."""
    if source.suffix == ".safetensors" and "repfold" in weights.read_header(source).metadata:
        description = read_description(source)
        if description.architecture is None or family_of(description.architecture.name) is None:
            raise RepFoldError(f"{source} is not of a family that other code has names for.")
        state = weights.read_tensors(source)
        return "repfold", description, _one_conv_a_block(state) if description.form == "folded" else state
    try:
        found = read_names(read_checkpoint(source), preset)
    except RepFoldError as error:
        raise error if str(source) in str(error) else RepFoldError(f"{source}: {error}") from error
    description = Description(
        found.architecture, preprocessing=usual_preprocessing(found.architecture), form=found.form
    )
    return found.code_base, description, found.state


def usual_preprocessing(architecture: Architecture) -> Preprocessing | None:
    """What published weights of this network were trained with, or None where there are none such."""
    return _IMAGENET if architecture.num_classes == 1000 and architecture.in_channels == 3 else None


def _network(architecture: Architecture, form: Form, state: State) -> nn.Module:
    """The network with these weights; a folded one as the graph that folding leaves."""
    network = skeleton(architecture, form)
    if form == "train":
        network.load_state_dict(state, assign=True)
        return network
    plain = fx.symbolic_trace(network.eval())
    plain.load_state_dict(state, assign=True)
    return plain


def _one_conv_a_block(state: State) -> State:
    """Name a folded block's convolution branches.conv, wherever in the branches folding put it.

    Raises: RepFoldError when a block has more than one: it was not folded whole.
    """
    renamed: State = {}
    for key, value in state.items():
        name = _FOLDED_CONV.sub(r"\1.branches.conv.\2", key)
        if name in renamed:
            raise RepFoldError(f"'{key}': its block holds more than one convolution, which no other layout has.")
        renamed[name] = value
    return renamed


def _write_state(state: State, path: Path) -> None:
    if path.suffix == ".safetensors":
        weights.write(path, state, {"format": "pt"})
    else:
        weights.write_archive(path, state)
