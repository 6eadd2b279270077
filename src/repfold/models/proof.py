"""The proof that a saved network loads: its outputs on an example, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.fold.compare import distance
from repfold.graph.module import GraphNetwork
from repfold.graph.structure import UnknownContainer, rebuild, take_apart
from repfold.models.description import Description
from repfold.modules import eval_mode

# The largest difference, relative to the largest value: the operators are the same, but for their order of summation.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 1e-1}
ACCELERATED = 1e-2  # of float32 on a GPU, which may multiply with fewer digits
SIDES = (64, 224, 32, 28)  # pixels to try where the size of the images is unknown


class Proof:
    """A network's outputs on one example.

    Args:
        example: an input or a tuple of arguments; None makes one up.
        description: may hold the images' size and channels.
    """

    def __init__(self, network: nn.Module, example: object, description: Description) -> None:
        given = [example if isinstance(example, tuple) else (example,)]
        refused: RepFoldError | None = None
        for arguments in given if example is not None else _made_up(network, description):
            try:
                self.arguments: tuple[Any, ...] = arguments
                self.expected = _outputs(network, arguments)
                return
            except RepFoldError as error:
                refused = refused or error
        raise refused or RepFoldError("The network's input is unknown: give one, save(..., example=...).")

    def check(self, loaded: nn.Module) -> None:
        """Raises: RepFoldError unless ``loaded`` computes the same."""
        tensor = next((leaf for leaf in take_apart(self.arguments) if isinstance(leaf, Tensor)), torch.empty(0))
        got = _outputs(loaded.to(tensor.device), self.arguments)
        if len(got) != len(self.expected) or not all(map(_same, self.expected, got)):
            raise RepFoldError(
                "The network computes something else when it is loaded from its file than it does now, so it was not "
                "saved. Export it as .pt2 or ONNX (`repfold export`), or name the code that builds it: "
                "save(..., description=Description(architecture=Architecture('package.module:factory')))."
            )


def _outputs(network: nn.Module, arguments: tuple[object, ...]) -> list[Any]:
    """The leaves of what it returns in evaluation; whatever it draws at random, it draws alike every time."""
    given = rebuild(arguments, lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf)
    try:
        with eval_mode(network), torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            return take_apart(network(*given))
    except RepFoldError:
        raise
    except UnknownContainer as error:
        raise RepFoldError(
            f"The network returns {error}, which a file cannot hold. Export it as .pt2 or ONNX (`repfold export`)."
        ) from error
    except Exception as error:  # the user's forward runs here: anything can come out
        shapes = [list(leaf.shape) if isinstance(leaf, Tensor) else leaf for leaf in take_apart(arguments)]
        raise RepFoldError(
            f"The network cannot be run on {str(shapes)[1:-1]} ({type(error).__name__}: {error!s:.200}). Give an input "
            "that it takes: save(..., example=...)."
        ) from error


def _same(a: object, b: object) -> bool:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return type(a) is type(b) and bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not (a.is_floating_point() or a.is_complex()):
        return torch.equal(a, b)
    tolerance = max(TOLERANCES.get(a.dtype, 1e-4), 0.0 if a.device.type == "cpu" else ACCELERATED)
    return distance(b, a)[0] <= tolerance


def _made_up(network: nn.Module, description: Description) -> Iterator[tuple[Tensor, ...]]:
    """Random values of the shapes that the network was recorded with, or that its first layer may take."""
    reference = next((p for p in network.parameters() if p.is_floating_point()), torch.empty(0))
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(reference.device, reference.dtype)

    if isinstance(network, GraphNetwork) and network.repfold_graph.inputs == network.repfold_arguments:
        graph = network.repfold_graph
        if all(value.dtype.is_floating_point for value in graph.inputs):
            yield tuple(random(*graph.numeric(value.shape)) for value in graph.inputs)
    if description.preprocessing is not None:
        side = description.preprocessing.image_size
        yield (random(2, description.preprocessing.channels, side, side),)
    convolution = next((layer for layer in network.modules() if isinstance(layer, _CONVOLUTIONS)), None)
    linear = next((layer for layer in network.modules() if isinstance(layer, nn.Linear)), None)
    axes = 2 if convolution is None else convolution.weight.dim() - 2
    known = [] if description.architecture is None else [description.architecture.in_channels]
    known += [] if convolution is None else [convolution.in_channels, 3]
    for count, side in product(dict.fromkeys(known), SIDES):
        yield (random(2, count, *[side] * axes),)
    # A layer of a user's own, the first of whose weights is a kernel [O, I/groups, *size].
    first = next((p for p in network.parameters() if p.dim() > 2), None)
    if convolution is None and first is not None:
        for side in SIDES:
            yield (random(2, first.shape[1], *[side] * (first.dim() - 2)),)
    if linear is not None:
        yield (random(2, linear.in_features),)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
