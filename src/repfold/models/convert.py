"""Checkpoints of other code into model files, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import fx, nn

from repfold.errors import RepFoldError
from repfold.models import weights
from repfold.models.checkpoint import read_checkpoint
from repfold.models.create import MODELS
from repfold.models.description import Architecture, Description, Form, Preprocessing
from repfold.models.file import read_description, save
from repfold.models.key_maps import State, from_ours, to_ours
from repfold.models.mobilenet import MobileNetTable
from repfold.models.mobileone import MobileOneTable
from repfold.models.presets import PRESETS
from repfold.models.repvgg import RepVGGTable
from repfold.modules import shapes

CodeBase = Literal["repfold", "original", "timm", "apple", "pytorchcv"]
# What a code base's networks have otherwise than ours of that name, though no tensor shows it.
_OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {("MobileNetV1", "timm"): {"activation": "relu6"}}
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


def family_of(name: str) -> str | None:
    """The family of key_maps that a model of MODELS belongs to; None for one that no other code has names for."""
    table = MODELS.get(name)
    if isinstance(table, MobileOneTable):
        return "MobileOne"
    if isinstance(table, RepVGGTable):
        return "RepVGG-plus" if table.auxiliary else "RepVGG"
    if isinstance(table, MobileNetTable):
        return "MobileNetV2" if table.residual else "MobileNetV1"
    return None


def recognise(state: Mapping[str, torch.Tensor], family: str, preset: str | None) -> tuple[Architecture, Form] | None:
    """The member of a family whose tensors, in our names, have these names and shapes; None when there is none."""
    head, stem = state.get("head.weight", state.get("classifier.weight")), _stem_kernel(state)
    if head is None or stem is None or head.dim() != 2:
        return None
    form: Form = "folded" if "stem.branches.conv.weight" in state else "train"
    given = shapes(state)
    for name, table in MODELS.items():
        if family_of(name) != family or _width(table) != head.shape[1]:
            continue
        for strides in PRESETS if preset is None else (preset,):
            architecture = Architecture(name, head.shape[0], strides, stem.shape[1])
            if given == _shapes(architecture, form):
                return architecture, form
    return None


def _read(source: Path, preset: str | None) -> tuple[str, Description, State]:
    """Where the file comes from, what it holds, and its tensors in our names."""
    if source.suffix == ".safetensors" and "repfold" in weights.read_header(source).metadata:
        description = read_description(source)
        if description.architecture is None or family_of(description.architecture.name) is None:
            raise RepFoldError(f"{source} is not of a family that other code has names for.")
        state = weights.read_tensors(source)
        return "repfold", description, _one_conv_a_block(state) if description.form == "folded" else state
    checkpoint = read_checkpoint(source)
    try:
        readings = to_ours(checkpoint)
    except RepFoldError as error:
        raise RepFoldError(f"{source}: {error}") from error
    for family, code_base, state in readings:
        state = _with_linear_head(_with_counters(state))
        if found := recognise(state, family, preset):
            architecture, form = found
            architecture = replace(architecture, options=_OPTIONS.get((family, code_base), {}))
            published = architecture.num_classes == 1000 and architecture.in_channels == 3
            description = Description(architecture, preprocessing=_IMAGENET if published else None, form=form)
            return code_base, description, state
    family, code_base, _ = readings[0]
    raise RepFoldError(f"{source} has {code_base}'s names of {family}, but the shapes of none of its members.")


def _network(architecture: Architecture, form: Form, state: State) -> nn.Module:
    """The network with these weights; a folded one as the graph that folding leaves."""
    network = _skeleton(architecture, form)
    if form == "train":
        network.load_state_dict(state, assign=True)
        return network
    plain = fx.symbolic_trace(network.eval())
    plain.load_state_dict(state, assign=True)
    return plain


def _skeleton(architecture: Architecture, form: Form) -> nn.Module:
    """The network on the meta device; for the folded form, one convolution with a bias instead of each block."""
    style: dict[str, Any] = {} if form == "train" else {"block": "plain", "norm": False}
    with torch.device("meta"):
        return MODELS[architecture.name].build(
            num_classes=architecture.num_classes or 1000,
            preset=architecture.preset,
            in_channels=architecture.in_channels,
            **style,
        )


def _shapes(architecture: Architecture, form: Form) -> dict[str, tuple[int, ...]]:
    state = _skeleton(architecture, form).state_dict()
    # Auxiliary heads exist in training only.
    return {k: shape for k, shape in shapes(state).items() if form == "train" or not k.startswith("auxiliary.")}


def _width(table: object) -> int:
    """Channels before the classifier: a quick test that spares building most of the networks."""
    assert isinstance(table, (RepVGGTable, MobileOneTable, MobileNetTable))
    features = table.features if isinstance(table, MobileNetTable) else 0
    return features or table.widths[-1]


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


def _with_counters(state: State) -> State:
    """Add the batch counters of BatchNorm where an old checkpoint lacks them; they matter to no output."""
    means = [key for key in state if key.endswith(".running_mean")]
    counters = {key.replace(".running_mean", ".num_batches_tracked"): torch.tensor(0) for key in means}
    return {**counters, **state}


def _with_linear_head(state: State) -> State:
    """A MobileNetV2 of pytorchcv ends in a 1x1 convolution without a bias: the linear layer that it equals."""
    head = state.get("classifier.weight")
    if head is None or head.dim() != 4 or "classifier.bias" in state:
        return state
    return {**state, "classifier.weight": head.flatten(1), "classifier.bias": torch.zeros(len(head)).to(head)}


def _stem_kernel(state: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    kernels = ("conv", "kxk.conv", "kxk.0.conv")
    names = [*(f"stem.branches.{kernel}.weight" for kernel in kernels), "conv_stem.weight"]
    return next((state[name] for name in names if name in state), None)


def _write_state(state: State, path: Path) -> None:
    if path.suffix == ".safetensors":
        weights.write(path, state, {"format": "pt"})
    else:
        weights.write_archive(path, state)
