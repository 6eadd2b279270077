"""Which network a checkpoint of other code is of: told by the names and shapes of its tensors, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.models.create import MODELS
from repfold.models.description import Architecture, Form
from repfold.models.key_maps import State, to_ours
from repfold.models.mobilenet import MobileNetTable
from repfold.models.mobileone import MobileOneTable
from repfold.models.presets import PRESETS
from repfold.models.repvgg import RepVGGTable
from repfold.models.resnet import ResNetTable
from repfold.modules import shapes

_HEADS = ("head.weight", "fc.weight", "classifier.weight")
# What a code base's networks have otherwise than ours of that name, though no tensor shows it.
_OPTIONS: Mapping[tuple[str, str], Mapping[str, Any]] = {("MobileNetV1", "timm"): {"activation": "relu6"}}


@dataclass(frozen=True)
class Recognised:
    """``state`` in our names of the network ``architecture``; ``code_base``: whose names they were."""

    architecture: Architecture
    form: Form
    code_base: str
    state: State


def read_names(checkpoint: Mapping[str, torch.Tensor], preset: str | None = None) -> Recognised:
    """Return what network a foreign state_dict is of, and its tensors in our names.

    ``preset``: the strides, which a state_dict shows only where they decide whether a block has an identity branch;
    None takes the first that fits, "imagenet" before "32px".

    Raises: RepFoldError when the names or shapes are of no known network.
    """
    readings = to_ours(checkpoint)
    for family, code_base, state in readings:
        state = _with_linear_head(with_counters(state))
        if found := recognise(state, family, preset):
            architecture, form = found
            architecture = replace(architecture, options=_OPTIONS.get((family, code_base), {}))
            return Recognised(architecture, form, code_base, state)
    family, code_base, _ = readings[0]
    raise RepFoldError(f"It has {code_base}'s names of {family}, but the shapes of none of its members.")


def family_of(name: str) -> str | None:
    """The family of key_maps that a model of MODELS belongs to; None for one that no other code has names for."""
    table = MODELS.get(name)
    if isinstance(table, MobileOneTable):
        return "MobileOne"
    if isinstance(table, RepVGGTable):
        return "RepVGG-plus" if table.auxiliary else "RepVGG"
    if isinstance(table, ResNetTable) and not table.parameter_free:
        return "ResNet"
    if isinstance(table, MobileNetTable):
        return "MobileNetV2" if table.residual else "MobileNetV1"
    return None


def recognise(state: Mapping[str, torch.Tensor], family: str, preset: str | None) -> tuple[Architecture, Form] | None:
    """The member of a family whose tensors, in our names, have these names and shapes; None when there is none."""
    head = next((state[name] for name in _HEADS if name in state), None)
    stem = _stem_kernel(state)
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


def skeleton(architecture: Architecture, form: Form) -> nn.Module:
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
    state = skeleton(architecture, form).state_dict()
    # Auxiliary heads exist in training only.
    return {k: shape for k, shape in shapes(state).items() if form == "train" or not k.startswith("auxiliary.")}


def _width(table: object) -> int:
    """Channels before the classifier: a quick test that spares building most of the networks."""
    assert isinstance(table, (RepVGGTable, MobileOneTable, ResNetTable, MobileNetTable))
    return table.features or table.widths[-1]


def with_counters(state: State) -> State:
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
    blocks = ("stem.branches.conv.weight", "stem.branches.kxk.conv.weight", "stem.branches.kxk.0.conv.weight")
    names = (*blocks, "conv1.weight", "conv1.0.weight", "conv_stem.weight")
    return next((state[name] for name in names if name in state), None)
