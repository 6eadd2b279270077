"""Norms by name, and changing the normalisation of a network that is built with BatchNorm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from repfold import specs
from repfold.errors import RepFoldError
from repfold.general_norm import GeneralNorm2d, check_batch, require_divides
from repfold.grouped_norm import GroupNorm
from repfold.modules import replace_modules

# Makes the layer that replaces a BatchNorm2d of so many channels, with its eps and with or without affine.
Make = Callable[[int, float, bool], nn.Module]


def batch(momentum: float = 0.1) -> Make:
    """BatchNorm: over the batch and the positions, channel by channel."""
    return lambda channels, eps, affine: nn.BatchNorm2d(channels, eps, momentum, affine)


def group(groups: int = 32) -> Make:
    """GroupNorm: within each sample and each of ``groups`` groups of channels."""

    def make(channels: int, eps: float, affine: bool) -> nn.Module:
        require_divides("groups", groups, "channels", channels)
        return GroupNorm(groups, channels, eps, affine)

    return make


def layer() -> Make:
    """LayerNorm: within each sample, over its channels and positions; scaled and shifted channel by channel."""
    return lambda channels, eps, affine: GroupNorm(1, channels, eps, affine)


def instance() -> Make:
    """InstanceNorm: within each sample and channel."""
    return lambda channels, eps, affine: nn.InstanceNorm2d(channels, eps, affine=affine)


def general(groups: tuple[int, ...] = (1, 1, 1, 1), per_sample: bool = False) -> Make:
    """GeneralNorm2d with ``groups`` = [gN, gC, gH, gW]."""
    return lambda channels, eps, affine: GeneralNorm2d(channels, groups, per_sample, eps=eps, affine=affine)


NORMS: dict[str, Callable[..., Make]] = {
    "batch": batch,
    "general": general,
    "group": group,
    "instance": instance,
    "layer": layer,
}

_READERS = {**specs.READERS, "tuple[int, ...]": lambda text: tuple(int(item) for item in text.split("/"))}


@dataclass(frozen=True)
class Norm:
    """A kind of normalisation: the ``text`` that names it, and what makes its layers."""

    text: str
    make: Make = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Norm:
    """Return the norm that ``text`` names: "batch", "layer", "instance", "group:16", "general:1/16/4/4".

    Raises: RepFoldError for an unknown name or argument, with the nearest match.
    """
    return Norm(text, specs.parse(text, "norm", NORMS, readers=_READERS))


def is_norm(option: object) -> bool:
    """Whether a network's option ``norm`` is a Norm, or the text of one; True and False are for the network itself."""
    return isinstance(option, str | Norm)


def replace(network: nn.Module, norm: Norm | str) -> nn.Module:
    """Return a copy of ``network`` in which every BatchNorm2d is ``norm``, or the one that this text names.

    Scales and shifts are kept, running statistics are not. Raises: RepFoldError when the network has no BatchNorm2d
    or a layer's channels cannot be grouped as asked; the layer is named.
    """
    norm, network = parse(norm) if isinstance(norm, str) else norm, copy.deepcopy(network)
    made: dict[nn.Module, nn.Module] = {
        old: _replaced(old, path, norm) for path, old in network.named_modules() if isinstance(old, nn.BatchNorm2d)
    }
    if not made:
        raise RepFoldError(f"The network has no BatchNorm2d that '{norm}' could replace.")
    return replace_modules(network, made)


def _replaced(old: nn.BatchNorm2d, path: str, norm: Norm) -> nn.Module:
    try:
        new = norm.make(old.num_features, old.eps, old.affine)
    except RepFoldError as error:
        raise RepFoldError(f"'{norm}' does not fit layer '{path or 'network'}': {error}") from error
    like = next(iter(old.state_dict().values()), torch.empty(0))
    new.to(like.device, like.dtype).train(old.training)
    for key, parameter in old.named_parameters():
        new.get_parameter(key).data = parameter.data
    return new


__all__ = ["NORMS", "GeneralNorm2d", "GroupNorm", "Norm", "check_batch", "is_norm", "parse", "replace"]
