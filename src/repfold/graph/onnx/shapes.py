"""Shapes of the values of a file: PyTorch's own rules on fake tensors with symbolic sizes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from repfold.graph.graph import Value, map_argument
from repfold.graph.onnx import kept
from repfold.graph.onnx.file import require_onnx
from repfold.graph.onnx.names import torch_dtype
from repfold.graph.onnx.shape_rules import RULES, NotRead, TooSlow
from repfold.graph.operators import run
from repfold.graph.sizes import Expression, Size, size_of
from repfold.graph.symbols import Symbols

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


Freedom = Literal["all", "batch", "none"]  # which of the sizes that the file leaves open are followed freely


class Shapes:
    """The sizes of one reading of a file.

    ``named``: example numbers for its free sizes; ``side``: for those of an image; ``free``: which sizes are free. With
    "none", the batch is 1.
    """

    def __init__(
        self,
        named: Mapping[str | tuple[int, int], int],
        side: int,
        *,
        free: Freedom = "all",
        seconds: float = float("inf"),
    ) -> None:
        self.named = named
        self.deadline = time.monotonic() + seconds
        self.side = side
        self.free = free
        self.env = ShapeEnv(duck_shape=False)
        self.mode = FakeTensorMode(shape_env=self.env, allow_non_fake_inputs=True)
        self.symbols = Symbols(self.env)
        self.sizes: dict[tuple[int, int], int] = {}
        self.inputs: list[Tensor] = []
        self._fakes: dict[Value, Any] = {}
        self._by_name: dict[str, Any] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it, operators run on fake tensors with symbolic sizes."""
        log = logging.getLogger("torch._subclasses.fake_tensor")
        level = log.level
        log.setLevel(logging.CRITICAL)  # it logs the errors that it raises
        try:
            with torch.no_grad(), self.mode, enable_python_dispatcher():
                yield
        finally:
            log.setLevel(level)

    def input(self, index: int, sizes: Sequence[int | str], dtype: torch.dtype) -> Tensor:
        """A tensor of these sizes, each a number or the name ("" for none) of a free one."""
        numbers = [self._example(size, (index, axis), len(sizes)) for axis, size in enumerate(sizes)]
        free = [isinstance(size, str) and self._may_be_free(axis) for axis, size in enumerate(sizes)]
        kinds = [DimDynamic.DYNAMIC if is_free else DimDynamic.STATIC for is_free in free]
        context: Any = StatelessSymbolicContext(dynamic_sizes=kinds)
        example = torch.empty(numbers, dtype=dtype, device="meta")
        shape = self.mode.from_tensor(example, symbolic_context=context, source=ConstantSource(f"input{index}")).shape
        with self.running():
            fake = torch.empty(shape, dtype=dtype)
        self.inputs.append(fake)
        for axis, (size, number) in enumerate(zip(sizes, numbers, strict=True)):
            self.symbols.name(fake.shape[axis], (index, axis))
            self.sizes[index, axis] = number
            if isinstance(size, str) and size and self._may_be_free(axis):
                same = self._by_name.setdefault(size, fake.shape[axis])
                assert bool(fake.shape[axis] == same)  # from here on they are one
        return fake

    def _may_be_free(self, axis: int) -> bool:
        return self.free == "all" or (self.free == "batch" and axis == 0)

    def _example(self, size: int | str, position: tuple[int, int], rank: int) -> int:
        if isinstance(size, int):
            return size
        axis = position[1]
        usual = (1 if self.free == "none" else 2) if axis == 0 else 3 if axis == 1 and rank > 2 else self.side
        return self.named.get(size, self.named.get(position, usual))

    def like(self, tensor: Tensor) -> Tensor:
        """A fake tensor of the same shape and dtype."""
        return torch.empty(tensor.shape, dtype=tensor.dtype)

    def of(self, op: str, arguments: Mapping[str, object]) -> Any:
        """The operator's output on fake tensors. Raises: TooSlow."""
        if time.monotonic() > self.deadline:
            raise TooSlow
        given = {name: map_argument(argument, self._fakes.__getitem__) for name, argument in arguments.items()}
        rule = RULES.get(op)
        return rule(**given) if rule is not None else run(op, given)

    def remember(self, value: Value, fake: object) -> None:
        """Store the fake tensor that stands for ``value``."""
        self._fakes[value] = fake

    def fake(self, value: Value) -> Tensor:
        """The fake tensor that ``remember`` stored."""
        fake: Tensor = self._fakes[value]
        return fake

    def described_as(self, fake: object) -> tuple[tuple[Size, ...], torch.dtype]:
        """Shape and dtype for a Value; () and uint8 for what is no tensor."""
        if not isinstance(fake, Tensor):
            return (), torch.uint8
        return tuple(self.symbols.number(size) for size in fake.shape), fake.dtype

    def stored(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Arguments with their symbolic numbers as expressions."""
        return {name: self._stored(argument) for name, argument in arguments.items()}

    def _stored(self, argument: object) -> Any:
        if isinstance(argument, SYMBOLS):
            return self.symbols.number(argument)
        if isinstance(argument, np.generic):
            return argument.item()
        return tuple(map(self._stored, argument)) if isinstance(argument, (tuple, list)) else argument

    def kept(
        self, node: Any, inputs: Mapping[str, Tensor], small: Mapping[str, np.ndarray], stated: Mapping[str, Any],
        opset: int, version: int,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """The outputs of a kept node as fake tensors. Raises: NotRead where their shapes are unknown."""
        names: dict[str, Any] = {name: size for name, size in self._by_name.items() if isinstance(size, torch.SymInt)}
        sizes = {name: (x.dtype, tuple(_named(size, names) for size in x.shape)) for name, x in inputs.items()}
        onnx = require_onnx()
        found: list[Tensor | None] = []
        inferred = kept.infer(node, sizes, small, opset, version)
        for name, (data_type, shape) in zip(node.output, inferred, strict=True):
            if name in stated and not _all_known(shape, names):
                data_type, shape = kept.type_of(stated[name].type.tensor_type)
            dtype = torch_dtype(onnx, data_type) if data_type else None
            if name and dtype is not None and shape is not None and _all_known(shape, names):
                found.append(torch.empty([names.get(size, size) for size in shape], dtype=dtype))
            elif name and self.free == "none" and node.domain not in ("", "ai.onnx"):
                return self._observed(node, inputs, opset, version)
            elif name:
                raise NotRead(
                    "it is kept as it is, and the shape of its output is unknown; the file's value_info can state it"
                )
            else:
                found.append(None)
        return tuple(found)

    def _observed(self, node: Any, inputs: Mapping[str, Tensor], opset: int, version: int) -> tuple[Tensor | None, ...]:
        """A foreign library's node, run on zeros, since no rule gives its output shapes."""
        with torch.utils._python_dispatch._disable_current_modes():
            given = tuple(torch.zeros(tuple(map(int, x.shape)), dtype=x.dtype) for x in inputs.values())
            outputs = kept.onnx_node(given, kept.to_json(node), opset, version)
        return tuple(map(self.like, outputs if isinstance(outputs, tuple) else (outputs,)))

    def settled(self) -> dict[Expression, Any]:
        """The sizes of inputs that are not free, with the values that they must have."""
        found: dict[Expression, Any] = {}
        for index, fake in enumerate(self.inputs):
            for axis, size in enumerate(fake.shape):
                known, leaf = self.symbols.number(size), size_of(index, axis)
                if known != leaf:
                    found[leaf] = known
        return found

    def checks(self, settled: Mapping[Expression, Any]) -> Iterator[tuple[Expression, str]]:
        """The conditions that settled sizes put on the inputs, with their reason."""
        for pair in settled.items():
            yield Expression("==", pair), "the file fixes this size"

    def described(self) -> str:
        """The example shapes of the inputs for a message, such as "2x3x224x224"."""
        return ", ".join("x".join(str(size) for size in self._numbers(index)) for index in range(len(self.inputs)))

    def _numbers(self, index: int) -> list[int]:
        start = 1 if self.free == "batch" else 0
        return [self.sizes[index, axis] for axis in range(start, self.inputs[index].dim())]


def _named(size: Any, names: dict[str, Any]) -> Any:
    """A size as a number or a name; sizes that are always equal share a name."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    for name, known in names.items():
        if known.node.expr == size.node.expr:
            return name
    names[f"size{len(names)}"] = size
    return f"size{len(names) - 1}"


def _all_known(shape: list[Any] | None, names: Mapping[str, object]) -> bool:
    return shape is not None and all(isinstance(size, int) or size in names for size in shape)
