"""Layers of torch.nn as their class name and constructor arguments, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.models.vocabulary import CLASSES

# Tensor factories' arguments and arguments that do not survive construction.
_NOT_WRITTEN = frozenset(
    {"self", "args", "kwargs", "device", "dtype", "init", "process_group", "min_value", "max_value"}
)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def _attention_arguments(layer: nn.MultiheadAttention) -> dict[str, Any]:
    plain = {name: getattr(layer, name) for name in ("embed_dim", "num_heads", "dropout", "kdim", "vdim")}
    return plain | {
        "bias": layer.in_proj_bias is not None,
        "add_bias_kv": layer.bias_k is not None,
        "add_zero_attn": layer.add_zero_attn,
        "batch_first": layer.batch_first,
    }


def _embedding_arguments(layer: nn.Embedding) -> dict[str, Any]:
    names = ("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
    return {name: getattr(layer, name) for name in names}


# Classes whose constructor arguments are not simply attributes of the same names.
_READERS: dict[type[nn.Module], Callable[[Any], dict[str, Any]]] = {
    nn.MultiheadAttention: _attention_arguments,
    nn.Embedding: _embedding_arguments,
    nn.UpsamplingBilinear2d: lambda layer: {"size": layer.size, "scale_factor": layer.scale_factor},
    nn.UpsamplingNearest2d: lambda layer: {"size": layer.size, "scale_factor": layer.scale_factor},
}


def class_name(layer: nn.Module) -> str | None:
    """The name under which a layer can be written, or None. Subclasses do not count: they may compute otherwise."""
    name = type(layer).__name__
    return name if name in CLASSES and getattr(nn, name, None) is type(layer) else None


def arguments(layer: nn.Module) -> dict[str, Any]:
    """The constructor arguments that build a layer like this one (without its weights).

    Raises: RepFoldError when the layer was changed after construction so that no arguments give it back.
    """
    kind = type(layer)
    if kind in _READERS:
        found = _READERS[kind](layer)
    else:
        names = [name for name in inspect.signature(kind.__init__).parameters if name not in _NOT_WRITTEN]
        found = {name: getattr(layer, name) for name in names if name != "bias"}
        if "bias" in names:
            found |= _bias_argument(layer)
    rebuilt = build(kind.__name__, found)
    if _shapes(rebuilt) != _shapes(layer) or rebuilt.extra_repr() != layer.extra_repr():
        raise RepFoldError(
            f"A {kind.__name__} was changed after its construction ({layer.extra_repr()}), so its constructor "
            "arguments do not describe it. Export the network as .pt2 instead."
        )
    return found


def _bias_argument(layer: nn.Module) -> dict[str, Any]:
    """For norms the argument is younger than the oldest PyTorch supported: written only where it says something."""
    has_bias = getattr(layer, "bias", None) is not None
    if not isinstance(layer, _NORMS):
        return {"bias": has_bias}
    return {"bias": False} if layer.weight is not None and not has_bias else {}


def build(name: str, layer_arguments: dict[str, Any]) -> nn.Module:
    """Build torch.nn.<name> on the meta device: shapes without memory.

    Raises: RepFoldError when the class is not in the vocabulary or does not take the arguments.
    """
    if name not in CLASSES:
        raise RepFoldError(f"'{name}' is not a layer that a model file may hold.")
    kind = getattr(nn, name)
    known = set(inspect.signature(kind.__init__).parameters) - _NOT_WRITTEN
    if unknown := layer_arguments.keys() - known:
        raise RepFoldError(f"torch.nn.{name} takes no argument {', '.join(sorted(unknown))} in this PyTorch.")
    try:
        with torch.device("meta"):
            return kind(**layer_arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError, OverflowError) as error:
        raise RepFoldError(f"torch.nn.{name} cannot be built with {layer_arguments}: {error}") from error


def _shapes(layer: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in layer.state_dict().items()}
