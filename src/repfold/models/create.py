"""Build a network from its name: a member of MODELS, or any factory written ``package.module:factory``."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from torch import nn

from repfold import norms
from repfold.errors import RepFoldError, nearest
from repfold.models import mgnet, mobilenet, mobileone, repopt, repvgg, resnet, vgg
from repfold.models.description import Architecture


class Table(Protocol):
    """What MODELS holds: the depths and widths of one network, and how to build it."""

    def build(self, *, num_classes: int, preset: str, in_channels: int, **options: Any) -> nn.Module:
        """A network with fresh weights; ``options`` are those of its family, ``preset`` sets the strides."""


MODELS: dict[str, Table] = {
    **repvgg.TABLES,
    **mobileone.TABLES,
    **mobilenet.TABLES,
    **vgg.TABLES,
    **repopt.TABLES,
    **resnet.TABLES,
    **mgnet.TABLES,
}

# The classes of networks that MODELS builds; each keeps its constructor arguments as attributes.
FAMILIES = (repvgg.RepVGG, mobileone.MobileOne, mobilenet.MobileNet, resnet.ResNet, mgnet.MgNet)


def create(
    name: str, *, num_classes: int | None = None, preset: str = "imagenet", in_channels: int = 3, **options: Any
) -> nn.Module:
    """Return a network with fresh weights: [N, in_channels, H, W] -> [N, num_classes].

    Args:
        name: a key of MODELS, or "package.module:factory"; a factory gets those of the arguments that it takes.
        num_classes: None means 1000, or whatever is a factory's own default.
        preset: the strides of a MODELS network: "imagenet" (total stride 32) or "32px" (total stride 8).
        options: of a MODELS network those of its family, such as ``models.style.Style`` (block, activation, norm,
            init), of a factory its own keyword arguments. For any network ``norm`` may be a ``repfold.norms.Norm``, or
            the text of one, as "group:16": what replaces each BatchNorm.

    Raises: RepFoldError for an unknown name, preset or option, and for a factory that cannot be called so.
    """
    if (num_classes is not None and num_classes < 1) or in_channels < 1:
        raise RepFoldError(f"num_classes is {num_classes} and in_channels {in_channels}; both must be at least 1.")
    if ":" in name:
        factory = find_factory(name)
        return call_factory(
            factory, name, num_classes=num_classes, preset=preset, in_channels=in_channels, options=options
        )
    if name not in MODELS:
        raise RepFoldError(
            f"Unknown model '{name}'. {nearest(name, MODELS)} A network of your own is 'package.module:factory'."
        )
    norm = options.pop("norm") if norms.is_norm(options.get("norm")) else None
    try:
        network: Any = MODELS[name].build(
            num_classes=num_classes or 1000, preset=preset, in_channels=in_channels, **options
        )
    except TypeError as error:
        raise RepFoldError(f"Model '{name}' cannot be built with options {options}: {error}.") from error
    if norm is not None:
        network = norms.replace(network, norm)
        network.options = {**network.options, "norm": str(norm)}
    built: nn.Module = network
    return built


def architecture_of(network: nn.Module) -> Architecture | None:
    """The arguments of ``create`` that build a network like this one, read from the network; None for a foreign one.

    Only what the constructor was given is compared: a network that was changed afterwards still counts.
    """
    if not isinstance(network, FAMILIES):
        return None
    names = [name for name, table in MODELS.items() if table == network.table]
    if not names:
        return None
    return Architecture(names[0], network.num_classes, network.preset, network.in_channels, network.options)


def find_factory(name: str) -> Callable[..., Any]:
    """Import ``package.module:factory`` (also from the current directory) and return the factory.

    Raises: RepFoldError when the module or the factory does not exist; errors inside the module pass through named.
    """
    module_name, _, attribute = name.partition(":")
    with _current_directory_importable():
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise RepFoldError(
                f"'{name}': no module named '{error.name}'. Give it as package.module:factory, with the module "
                "installed or in the current directory."
            ) from error
        except ValueError as error:
            raise RepFoldError(f"'{name}' is not of the form package.module:factory.") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [n for n in dir(found) if not n.startswith("_")]
            raise RepFoldError(f"Module '{module_name}' has no '{attribute}'. {nearest(attribute, known)}")
        found = getattr(found, part)
    if not callable(found):
        raise RepFoldError(f"'{name}' is of type {type(found).__name__}, not a function or class that makes a network.")
    factory: Callable[..., Any] = found
    return factory


def call_factory(
    factory: Callable[..., Any],
    name: str,
    *,
    num_classes: int | None,
    preset: str,
    in_channels: int,
    options: Mapping[str, Any],
) -> nn.Module:
    """Call a factory with those of the arguments that it takes; ``name`` is for messages.

    Raises: RepFoldError when it does not take what was asked for, or does not return a network.
    """
    arguments = dict(options)
    norm = None
    if norms.is_norm(options.get("norm")) and not accepts(factory, "norm"):
        norm = arguments.pop("norm")
    if num_classes is not None and accepts(factory, "num_classes"):
        arguments["num_classes"] = num_classes
    # Of the other two only what differs from the default is a wish that has to be met.
    for key, value, default in (("in_channels", in_channels, 3), ("preset", preset, "imagenet")):
        if accepts(factory, key):
            arguments[key] = value
        elif value != default:
            raise RepFoldError(f"'{name}' takes no '{key}', but {key}={value!r} was asked for.")
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise RepFoldError(f"'{name}' cannot be called with {arguments}: {error}.") from error
    network = factory(**arguments)
    if not isinstance(network, nn.Module):
        raise RepFoldError(f"'{name}' returned {type(network).__name__}, not a torch.nn.Module.")
    return network if norm is None else norms.replace(network, norm)


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether ``factory`` has a parameter of this name (a bare ``**kwargs`` may swallow it, so that is not counted).

    For functions whose named parameters are all behind ``**kwargs`` the class or function that they forward to is
    not known; ``num_classes`` is then offered too, since that is what such zoos call it.
    """
    parameters = inspect.signature(factory).parameters
    swallows = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return name in parameters or (swallows and name == "num_classes")


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)
