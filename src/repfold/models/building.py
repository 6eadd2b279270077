"""From what a file says of an architecture to the network: by a table of ours, or by code that the caller vouches for.

A file never makes Python import anything, nor chooses what a function is called with: a function that only builds
networks may still load whatever path an option names.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from repfold.errors import RepFoldError
from repfold.expand import ExpandWarning, expand
from repfold.models.create import call_factory, create, find_factory
from repfold.models.description import Architecture
from repfold.models.presets import PRESETS

# What building a network of ours with options that make no sense can raise.
_MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, ArithmeticError, MemoryError)


@dataclass(frozen=True)
class Vouched:
    """What the caller vouches for.

    Args:
        factory: builds a network of the user's own, whatever the file names.
        trust: the file may name the factory, and the options that it is called with.
    """

    factory: str | Callable[..., Any] | None = None
    trust: bool = False


NOTHING = Vouched()


def build(architecture: Architecture, vouched: Vouched = NOTHING) -> nn.Module:
    """The network: one of MODELS on the meta device, a factory's as the factory makes it.

    Raises: RepFoldError for a factory, or options for one, that nobody vouches for.
    """
    arguments: dict[str, Any] = {
        "num_classes": architecture.num_classes,
        "preset": architecture.preset,
        "in_channels": architecture.in_channels,
    }
    if ":" not in architecture.name:
        try:
            with torch.device("meta"):
                return create(architecture.name, **arguments, **architecture.options)
        except RepFoldError:
            raise
        except _MALFORMED as error:
            raise RepFoldError(f"its {architecture.name} cannot be built: {type(error).__name__}: {error}") from error
    _check_vouched(architecture, vouched)
    factory = vouched.factory or architecture.name
    found = find_factory(factory) if isinstance(factory, str) else factory
    network = call_factory(found, architecture.name, options=dict(architecture.options), **arguments)
    if not architecture.expand:
        return network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExpandWarning)  # emitted once, when it was trained
        return expand(network, architecture.expand, fresh=True)


def _check_vouched(architecture: Architecture, vouched: Vouched) -> None:
    if vouched.trust:
        return
    if vouched.factory is None:
        raise RepFoldError(
            f"its network is built by '{architecture.name}', and a file may not import code by itself. If you trained "
            "it, or trust whoever did, say so: --trust (trust=True). To build it by code of your own choice: --factory "
            f"'{architecture.name}' (factory=...)."
        )
    options = [f"{name}={value!r}" for name, value in architecture.options.items()]
    options += [f"preset={architecture.preset!r}"] if architecture.preset not in PRESETS else []
    if options:
        raise RepFoldError(
            f"it wants its factory called with {', '.join(options)}, and a file may not choose arguments of code. "
            "If you trained it, or trust whoever did, add --trust (trust=True); in Python the factory may also be a "
            "function that sets them itself."
        )
