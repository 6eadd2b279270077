"""What a network costs to run: parameters, multiply-adds, memory traffic and Winograd multiplies, layer by layer.

Every operator is counted as it runs, so that functional calls, operators and networks that cannot be traced count too.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from repfold.fold.compare import run
from repfold.fold.cost import NOTHING, Cost, LayerCost

# F(2x2, 3x3): 16 multiplies for a tile of 2x2 outputs instead of 36 (Lavin and Gray, arXiv:1509.09308).
WINOGRAD_TILE, WINOGRAD_MULTIPLIES = 2, 16

NORMS = frozenset(
    {
        "aten.native_batch_norm",
        "aten._native_batch_norm_legit",
        "aten._native_batch_norm_legit_no_training",
        "aten.cudnn_batch_norm",
        "aten.miopen_batch_norm",
        "aten.native_group_norm",
        "aten.native_layer_norm",
    }
)


@dataclass(frozen=True)
class Profile:
    """The costs of the modules that hold parameters or run operators of their own, in the order of their calls."""

    layers: tuple[LayerCost, ...]

    @property
    def total(self) -> Cost:
        """The sum over all layers."""
        return sum(self.layers, start=NOTHING)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"total": dataclasses.asdict(self.total), "layers": [dataclasses.asdict(layer) for layer in self.layers]}


def profile(network: nn.Module, example: object) -> Profile:
    """Count what ``network``, in eval mode, does on ``example`` (all of it: give one image for the cost of an image).

    Args:
        network: any network, left untouched; a parameter that modules share is counted once.
        example: an input as for ``repfold.fold``, or a tuple of its arguments.

    Raises: FoldError when the network cannot run on the example.
    """
    arguments = example if isinstance(example, tuple) else (example,)
    twin = copy.deepcopy(network, {id(p): p for p in network.parameters()}).eval()
    counter = _Counter()
    for path, module in twin.named_modules():
        module.register_forward_pre_hook(counter.enter(path))
        module.register_forward_hook(counter.leave, always_call=True)
    with _unfused_attention(), counter:
        run(twin, arguments)
    learned = _parameters(twin)
    costs = counter.costs | {path: counter.costs.get(path, NOTHING) + Cost(count) for path, count in learned.items()}
    return Profile(
        tuple(
            LayerCost(**dataclasses.asdict(cost), name=path, kind=type(twin.get_submodule(path)).__name__)
            for path, cost in costs.items()
        )
    )


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention as the matrix products that it is made of, instead of operators that hide them."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _parameters(network: nn.Module) -> dict[str, int]:
    """Path -> parameters of its own, for the modules that have any; shared ones belong to the first."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    for path, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                found[path] = found.get(path, 0) + parameter.numel()
    return found


class _Counter(TorchDispatchMode):
    """Charges every operator to the innermost module that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: list[str] = []
        self.costs: dict[str, Cost] = {}

    def enter(self, path: str) -> Callable[..., None]:
        return lambda module, arguments: self.running.append(path)

    def leave(self, module: nn.Module, arguments: object, output: object) -> None:
        self.running.pop()

    def __torch_dispatch__(self, func: Any, types: object, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.running and not func.is_view:
            path = self.running[-1]
            cost = _operator_cost(func, args, kwargs or {}, output)
            if cost.traffic:
                self.costs[path] = self.costs.get(path, NOTHING) + cost
        return output


def _operator_cost(func: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Cost:
    inputs, outputs = _tensors((args, kwargs)), _tensors(output)
    if not inputs:  # filling a new tensor
        return NOTHING
    name = str(func.overloadpacket)
    multiply_adds = 0
    if func.overloadpacket in flop_registry:
        multiply_adds = flop_registry[func.overloadpacket](*args, **kwargs, out_val=output) // 2
    elif name in NORMS:
        multiply_adds = inputs[0].numel()
    winograd = _winograd(args, output) if name == "aten.convolution" else None
    return Cost(
        multiply_adds=multiply_adds,
        traffic=sum(tensor.numel() for tensor in inputs) + sum(tensor.numel() for tensor in outputs),
        winograd=multiply_adds if winograd is None else winograd,
    )


def _winograd(args: Any, output: Tensor) -> int | None:
    """Multiplies of a convolution in Winograd's form, or None where it has none."""
    _, weight, _, stride, _, dilation, is_transposed, *_ = args
    if list(weight.shape[2:]) != [3, 3] or is_transposed or {*stride, *dilation} != {1}:
        return None
    tiles = prod(ceil(size / WINOGRAD_TILE) for size in output.shape[2:])
    channels: int = weight.shape[0] * weight.shape[1]
    return output.shape[0] * channels * tiles * WINOGRAD_MULTIPLIES


def _tensors(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    fx.node.map_aggregate(values, lambda leaf: found.append(leaf) if isinstance(leaf, torch.Tensor) else None)
    return found
