"""Networks' modules: what they state, replacing them, eval mode for a while, and tensors that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from torch import Tensor, nn

from repfold.errors import few


class DiagonalKernels(nn.Module):
    """A module that trains kernels which it keeps as scales, one value a channel; weight decay takes them for kernels.

    ``diagonal_kernels``: the names of these parameters.
    """

    diagonal_kernels: ClassVar[tuple[str, ...]] = ()


def replace_modules(network: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Replace modules by others, in place; return ``network``, or its own replacement.

    Modules are found by identity: one that stands at several paths is replaced at all of them, by one module.
    """
    for path, module in list(network.named_modules(remove_duplicate=False)):
        if path and module in replacements:
            network.set_submodule(path, replacements[module])
    return replacements.get(network, network)


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Within the block ``network`` is in eval mode; afterwards each of its modules is in the mode that it was in.

    The root's mode alone would not do: a BatchNorm that is frozen, in eval mode within a network that trains, would
    come back training.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def differences(own: Mapping[str, object], given: Mapping[str, object]) -> str:
    """Return why tensors ``given`` cannot replace a network's ``own``, or "" when they can.

    Args:
        own, given: name -> what has to be equal, such as the shape.
    """
    found = [f"'{name}' is missing" for name in own.keys() - given.keys()]
    found += [f"'{name}' belongs to nothing in the network" for name in given.keys() - own.keys()]
    found += [
        f"'{name}' is {_text(given[name])}, not {_text(own[name])}"
        for name in own.keys() & given.keys()
        if own[name] != given[name]
    ]
    return few(sorted(found))


def _text(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
