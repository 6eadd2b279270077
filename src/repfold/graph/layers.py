"""Layers of torch.nn: recognising calls of them among a graph's values, and building them around existing tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repfold.graph.graph import STATE, Value

State = Mapping[str, Tensor]
Described = tuple[type[nn.Module], dict[str, Any]]  # a class, and the arguments of its constructor


@dataclass(frozen=True)
class Layer:
    """A layer at ``path``.

    Args:
        options: the constructor's arguments, by name.
        tensors: attribute -> path of the state, or None where the layer has no such tensor.
        training: of a norm, whether the batch's own statistics are used; None where nothing depends on the mode.
    """

    path: str
    kind: type[nn.Module]
    options: Mapping[str, Any]
    tensors: Mapping[str, str | None]
    training: bool | None = None


@dataclass(frozen=True)
class _Family:
    """``tensors``: the arguments that are attributes of the layer; ``x``: the one that the layer is called with."""

    read: Callable[[Value, nn.Module | None], Described | None]
    tensors: tuple[str, ...]
    x: str = "x"


def layer_of(value: Value, original: Callable[[str], nn.Module | None]) -> Layer | None:
    """The layer that ``value`` is a call of, if its tensors are those of one path.

    ``original`` gives the module of a path in the network that was recorded, for what a norm's operator does not show.
    """
    family = FAMILIES.get(value.op)
    if family is None:
        return None
    tensors = {name: value[name] for name in family.tensors}
    path = _common_owner(tensors)
    if path is None:
        return None
    described = family.read(value, original(path))
    if described is None:
        return None
    paths = {name: None if tensor is None else tensor["path"] for name, tensor in tensors.items()}
    return Layer(path, *described, paths, is_training(value))


def argument_of(value: Value) -> Value:
    """The input of the layer."""
    argument: Value = value[FAMILIES[value.op].x]
    return argument


def build(layer: Layer, state: State) -> nn.Module:
    """The layer around the tensors of ``state``: Parameters stay Parameters, other tensors become buffers."""
    module = layer.kind(**layer.options, device="meta").eval()
    for name, path in layer.tensors.items():
        hold(module, name, None if path is None else state[path])
    if getattr(module, "num_batches_tracked", None) is not None:
        none_yet = torch.zeros((), dtype=torch.long, device=state[str(layer.tensors["running_mean"])].device)
        hold(module, "num_batches_tracked", state.get(f"{layer.path}.num_batches_tracked", none_yet))
    return module


def hold(module: nn.Module, name: str, tensor: Tensor | None) -> None:
    """Make ``tensor`` the parameter or buffer of that name."""
    if tensor is None:
        setattr(module, name, None)
        return
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def is_same(module: nn.Module | None, wanted: nn.Module) -> bool:
    """Whether ``module`` is equivalent to ``wanted`` with the very same tensors; never one with hooks."""
    if type(module) is not type(wanted) or module._forward_hooks or module._forward_pre_hooks:
        return False
    tensors = {**wanted._parameters, **wanted._buffers}
    rest = {key: value for key, value in vars(wanted).items() if not key.startswith("_") and key != "training"}
    same_tensors = all(getattr(module, name, None) is tensor for name, tensor in tensors.items())
    return same_tensors and all(getattr(module, key, None) == value for key, value in rest.items())


def submodule(network: nn.Module | None, path: str) -> nn.Module | None:
    """The module at ``path``, None where there is none."""
    try:
        return None if network is None else network.get_submodule(path)
    except AttributeError:
        return None


def _common_owner(tensors: Mapping[str, object]) -> str | None:
    """p where every tensor is a state value of the path "p.<its name>"."""
    owners = set()
    for name, value in tensors.items():
        if value is None:
            continue
        if not isinstance(value, Value) or value.op != STATE or not value["path"].endswith(f".{name}"):
            return None
        owners.add(value["path"].removesuffix(f".{name}"))
    return owners.pop() if len(owners) == 1 else None


def is_training(value: Value) -> bool | None:
    """Whether a norm uses the batch's own statistics and updates the running ones; None for other operators."""
    names = {"batch_norm": "training", "instance_norm": "use_input_stats"}
    training: bool | None = value[names[value.op]] if value.op in names else None
    return training


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS: dict[int, type[nn.Module]] = {
    2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d,
}  # fmt: skip
_INSTANCE_NORMS: dict[int, type[nn.Module]] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _convolution(value: Value, original: nn.Module | None) -> Described | None:
    weight, groups = value["weight"], value["groups"]
    axes = len(weight.shape) - 2
    if len(value["x"].shape) != axes + 2:
        return None
    inner, outer = weight.shape[1] * groups, weight.shape[0]
    options = {
        "kernel_size": tuple(weight.shape[2:]),
        **{name: _an_axis(value[name], axes) for name in ("stride", "padding", "dilation")},
        "groups": groups,
        "bias": value["bias"] is not None,
    }
    if not value["transposed"]:
        return _CONVOLUTIONS[axes - 1], {"in_channels": inner, "out_channels": outer, **options}
    options["output_padding"] = _an_axis(value["output_padding"], axes)
    return _TRANSPOSED[axes - 1], {"in_channels": outer, "out_channels": inner, **options}


def _an_axis(given: tuple[int, ...], axes: int) -> tuple[int, ...]:
    return tuple(given) * axes if len(given) == 1 else tuple(given)


def _linear(value: Value, original: nn.Module | None) -> Described | None:
    rows, columns = value["weight"].shape
    return nn.Linear, {"in_features": columns, "out_features": rows, "bias": value["bias"] is not None}


_NORM_STATE = ("running_mean", "weight", "bias")


def _batch_norm(value: Value, original: nn.Module | None) -> Described | None:
    kind = _BATCH_NORMS.get(len(value["x"].shape))
    if kind is None or (value["running_mean"] is None) != (value["running_var"] is None):
        return None
    momentum = value["momentum"]
    if isinstance(original, _BatchNorm):
        momentum = original.momentum  # None: the mean of all batches, which the operator shows as a number
        kind = nn.SyncBatchNorm if isinstance(original, nn.SyncBatchNorm) else kind
    return kind, _norm_options(value, momentum)


def _instance_norm(value: Value, original: nn.Module | None) -> Described | None:
    kind = _INSTANCE_NORMS.get(len(value["x"].shape))
    return None if kind is None else (kind, _norm_options(value, value["momentum"]))


def _norm_options(value: Value, momentum: float | None) -> dict[str, Any]:
    return {
        "num_features": next((value[name].shape[0] for name in _NORM_STATE if value[name]), value["x"].shape[1]),
        "eps": value["eps"],
        "momentum": momentum,
        "affine": value["weight"] is not None or value["bias"] is not None,
        "track_running_stats": value["running_mean"] is not None,
    }


def _layer_norm(value: Value, original: nn.Module | None) -> Described | None:
    if value["weight"] is None:
        return None
    return nn.LayerNorm, {"normalized_shape": value["shape"], "eps": value["eps"], "bias": value["bias"] is not None}


def _group_norm(value: Value, original: nn.Module | None) -> Described | None:
    return nn.GroupNorm, {"num_groups": value["groups"], "num_channels": value["x"].shape[1], "eps": value["eps"]}


def _prelu(value: Value, original: nn.Module | None) -> Described | None:
    return nn.PReLU, {"num_parameters": value["weight"].shape[0]}


def _embedding(value: Value, original: nn.Module | None) -> Described | None:
    rows, columns = value["weight"].shape
    rest = {name: value[name] for name in ("scale_grad_by_freq", "sparse")}
    padding = None if value["padding_idx"] < 0 else value["padding_idx"]
    return nn.Embedding, {"num_embeddings": rows, "embedding_dim": columns, "padding_idx": padding, **rest}


_STATISTICS = ("weight", "bias", "running_mean", "running_var")

FAMILIES: dict[str, _Family] = {
    "conv": _Family(_convolution, ("weight", "bias")),
    "linear": _Family(_linear, ("weight", "bias")),
    "batch_norm": _Family(_batch_norm, _STATISTICS),
    "instance_norm": _Family(_instance_norm, _STATISTICS),
    "layer_norm": _Family(_layer_norm, ("weight", "bias")),
    "group_norm": _Family(_group_norm, ("weight", "bias")),
    "prelu": _Family(_prelu, ("weight",)),
    "aten.embedding.default": _Family(_embedding, ("weight",), "indices"),
}
