"""What a network really executes, counted below its Python: operators as PyTorch dispatches them on one forward."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from leaves import tensors

# The operators that multiply by weights or by each other, and where their weight stands among the arguments.
WEIGHT_AT = {"convolution": 1, "mm": 1, "addmm": 2, "bmm": 1, "baddbmm": 2}
# Two products each.
ATTENTION = "_scaled_dot_product"
# Where the flag stands that asks for the batch's own statistics; those norms are no constant scale.
NORM_TRAINS_AT = {"native_batch_norm": 5, "_native_batch_norm_legit": 5}


@dataclass(frozen=True)
class Executed:
    """One forward in eval mode.

    ``reading`` counts the norms that read what a convolution or linear layer wrote, ``following`` those among them that
    are alone in reading it, ``bound`` those among these that cannot go all the same: the convolution's weights serve
    calls that no norm, or another one, follows.
    """

    convolutions: int
    products: int  # convolutions and matrix products
    multiply_adds: int
    norms: int
    reading: int
    following: int
    bound: int
    scales: int  # other multiplications by a constant for each channel that follow a convolution or linear layer


@dataclass
class _Write:
    """The operator that last wrote to a storage."""

    kind: str
    weight: int | None = None  # of a convolution or matrix product: its parameter's storage, where it is one
    readers: list[str] = field(default_factory=list)
    norm: int | None = None  # the parameter of the norm that reads it


class _Count(TorchDispatchMode):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.parameters = {_storage(tensor) for tensor in [*network.parameters(), *network.buffers()]}
        self.last: dict[int, _Write] = {}
        self.writes: list[_Write] = []
        self.ran: Counter[str] = Counter()
        self.flops = 0

    def wrote(self, tensor: Tensor, write: _Write) -> None:
        self.last[_storage(tensor)] = write
        self.writes.append(write)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, keywords)) if isinstance(leaf, Tensor)]
        read = {_storage(tensor) for tensor in given}
        name = func._overloadpacket.__name__
        sources = [self.last[storage] for storage in read if storage in self.last]
        result = func(*args, **keywords)
        written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not func._schema.is_mutable and written and all(_storage(tensor) in read for tensor in written):
            return result  # a view
        self.ran[name] += 1
        if func._overloadpacket in flop_registry:
            self.flops += int(flop_registry[func._overloadpacket](*args, **keywords, out_val=result))
        kind = self.kind(name, args)
        for source in sources:
            source.readers.append(kind)
            if kind == "norm" and source.kind == "product":
                source.norm = _storage(next(value for value in args[1:5] if isinstance(value, Tensor)))
        if not sources:  # what no input goes into is a constant; its storage may have held something else
            for tensor in written:
                self.last.pop(_storage(tensor), None)
        else:
            weight = args[WEIGHT_AT[name]] if name in WEIGHT_AT else None
            own = _storage(weight) if isinstance(weight, Tensor) and _storage(weight) in self.parameters else None
            for tensor in written[:1] if kind == "norm" else written:
                self.wrote(tensor, _Write(kind, own))
        return result

    def kind(self, name: str, args: tuple[Any, ...]) -> str:
        if name in WEIGHT_AT:
            return "product"
        if "batch_norm" in name:
            trains = name in NORM_TRAINS_AT and args[NORM_TRAINS_AT[name]]
            return "other" if trains else "norm"
        if name in ("mul", "mul_") and self.scales_channels(*args[:2]):
            return "scale"
        return "other"

    def scales_channels(self, x: Any, other: Any) -> bool:
        """Whether one factor comes from the input and the other is a constant with one value for each channel."""
        if not (isinstance(x, Tensor) and isinstance(other, Tensor)) or x.dim() < 2:
            return False
        if _storage(x) not in self.last:
            x, other = other, x
        channels = (x.shape[1], x.shape[-1])
        return _storage(x) in self.last and _storage(other) not in self.last and 1 < other.numel() in channels


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def executed(network: nn.Module, *arguments: Any) -> Executed:
    """Run ``network`` once and count."""
    count = _Count(network)
    arguments = tuple(value.clone() if isinstance(value, Tensor) else value for value in arguments)
    for tensor in tensors(arguments):
        count.wrote(tensor, _Write("input"))
    with torch.no_grad(), count:
        result = network(*arguments)
    for tensor in tensors(result):
        if _storage(tensor) in count.last:
            count.last[_storage(tensor)].readers.append("output")
    products = [write for write in count.writes if write.kind == "product"]
    alone = {id(write): write.readers[0] for write in products if len(write.readers) == 1}
    followers: dict[int, set[int | None]] = {}
    for write in products:
        if write.weight is not None:
            followers.setdefault(write.weight, set()).add(write.norm if id(write) in alone else None)
    following = [write for write in products if alone.get(id(write)) == "norm"]
    return Executed(
        convolutions=count.ran["convolution"],
        products=sum(count.ran[name] for name in WEIGHT_AT)
        + 2 * sum(times for name, times in count.ran.items() if name.startswith(ATTENTION)),
        multiply_adds=count.flops // 2,
        norms=sum(write.kind == "norm" for write in count.writes),
        reading=sum(write.norm is not None for write in products),
        following=len(following),
        bound=sum(write.weight is not None and len(followers[write.weight]) > 1 for write in following),
        scales=sum(alone.get(id(write)) == "scale" for write in products),
    )
