"""Recording what reaches PyTorch's dispatcher: every operator as a Value of earlier ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._functorch import _unwrap_functional_tensor, is_functionaltensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from repfold.graph.call import MOVED_STATISTICS, Call
from repfold.graph.graph import INPUT, STATE, Value
from repfold.graph.interpret import compute
from repfold.graph.operators import PREFIX, is_random
from repfold.graph.symbols import Symbols
from repfold.graph.translate import TRANSLATIONS


class NotFollowed(Exception):
    """The forward cannot be followed as a whole; the message says why."""


class TooSlow(Exception):
    """Following free sizes takes longer than it may."""


class Session(Protocol):
    """The run that is being recorded: its sizes, the network's tensors, and the other names of shared ones."""

    env: Any
    symbols: Symbols
    tensors: dict[str, Tensor]
    shared: dict[str, str]

    def with_plain_sizes(self, output: object) -> Any:
        """The output with one symbol for each size that is a long expression."""


# Operators that compute new sizes.
_RESIZING = frozenset(
    {
        torch.ops.aten.convolution,
        torch.ops.aten.max_pool2d_with_indices,
        torch.ops.aten.max_pool3d_with_indices,
        torch.ops.aten.avg_pool2d,
        torch.ops.aten.avg_pool3d,
    }
)


class Recorder(TorchDispatchMode):
    """Records every operator that reaches the dispatcher as a Value of earlier ones."""

    def __init__(self, session: Session, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.session = session
        self.deadline = deadline
        self.values: list[Value] = []
        self.inputs: list[Value] = []
        self.shapes: list[tuple[Any, ...]] = []  # of the inputs, as PyTorch writes their sizes
        self.sizes: dict[tuple[int, int], int] = {}
        self.updates: dict[str, Value] = {}
        self.state: dict[str, Tensor] = {}  # constants that no parameter or buffer holds
        self.remarks: list[str] = []
        self.scope = ""
        self.aliases: dict[str, Value] = {}  # of tensors that modules share, by their other names
        self.known: dict[int, Any] = {}
        self.kept: list[Any] = []  # keeps them alive, so that no id is reused
        self.same: tuple[Value, Tensor, Tensor] | None = None  # of the last alias: Value, source, result

    def __torch_dispatch__(self, func: Any, types: object, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        if time.thread_time() > self.deadline:
            raise TooSlow
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return self._read(args[0])
        if func.overloadpacket is torch.ops.aten.squeeze and self.session.env is not None:
            self.session.env.removes_ones(_squeezed(*args, **kwargs))
        output = func(*args, **kwargs)
        if func.namespace == "prim":
            return output
        if func.overloadpacket in _RESIZING and self.session.env is not None:
            output = self.session.with_plain_sizes(output)
        self._record(func, args, kwargs, output)
        return output

    def name_state(self, path: str, fake: Tensor) -> None:
        """Record ``fake`` as the parameter or buffer at ``path``."""
        self._keep(fake, self._add(STATE, {"path": path}, fake, name=path.replace(".", "_")))

    def name_input(self, fake: Tensor, example: Tensor) -> None:
        """Record ``fake`` as the next input, its sizes as free symbols with the numbers of ``example``."""
        index = len(self.inputs)
        self.shapes.append(tuple(fake.shape))
        for axis, (size, hint) in enumerate(zip(fake.shape, example.shape, strict=True)):
            self.session.symbols.name(size, (index, axis))
            self.sizes[index, axis] = int(hint)
        value = self._add(INPUT, {"index": index}, fake, name=f"x{index or ''}")
        self.inputs.append(value)
        self._keep(fake, value)

    def value(self, tensor: Tensor) -> Value:
        """The Value of a tensor: an operator's output, or a constant from outside."""
        found = self.known.get(id(tensor))
        if isinstance(found, Value):
            return self._under_local_path(found) if found.op == STATE else found
        if isinstance(tensor, FakeTensor):
            constant = tensor.constant
            if constant is None:
                raise NotFollowed("a tensor appears that no operator gave")
            tensor = constant
        path = f"constant{len(self.state)}"
        self.state[path] = tensor
        value = self._add(STATE, {"path": path}, tensor, name=path)
        self._keep(tensor, value)
        return value

    def _under_local_path(self, state: Value) -> Value:
        """The Value of a shared tensor under the path that the running module has for it."""
        names = [path for path, first in self.session.shared.items() if first == state["path"]]
        here = [path for path in names if path.rpartition(".")[0] == self.scope]
        if not here:
            return state
        if here[0] not in self.aliases:
            twin = replace(state, arguments={"path": here[0]}, name=f"{here[0].replace('.', '_')}_{len(self.values)}")
            self.values.append(twin)
            self.aliases[here[0]] = twin
        return self.aliases[here[0]]

    def whole(
        self, op: str, arguments: Mapping[str, object], run: Callable[[], Tensor], *, stands_in: bool = False
    ) -> Tensor:
        """The output of ``run``, recorded as one operator of ``arguments``; the operators inside it are pruned later.

        An alias maps the output on this side of PyTorch's functionalization to its Value. Where that ``stands_in`` for
        the result, having only its shape, all its names mean the result.
        """
        bound = {name: self._seen(a) if isinstance(a, Tensor) else self._argument(a) for name, a in arguments.items()}
        output: Tensor = torch.ops.aten.alias.default(run())
        assert self.same is not None
        source, inner = self.same[1:]
        value = self.add(op, bound, inner)
        self._keep(inner, value)
        if stands_in:
            self._keep(source, value)
        return output

    def _seen(self, tensor: Tensor) -> Value:
        """The Value of a tensor as the forward holds it: around it is PyTorch's functionalization."""
        if not is_functionaltensor(tensor):
            return self.value(tensor)
        torch._sync(tensor)  # type: ignore[attr-defined,no-untyped-call]  # what was written to it or its base
        return self.value(_unwrap_functional_tensor(tensor, False))

    def add(self, op: str, arguments: dict[str, Any], like: object) -> Value:
        """A new Value of the shape and dtype of ``like``."""
        return self._add(op, arguments, like, grad=torch.is_grad_enabled())

    def shape(self, tensor: Tensor) -> tuple[Any, ...]:
        """The tensor's sizes: numbers, or Expressions of the inputs' sizes."""
        return tuple(self.session.symbols.number(size) for size in tensor.shape)

    def _add(self, op: str, arguments: dict[str, Any], like: Any, *, name: str = "", grad: bool = True) -> Value:
        tensor = like if isinstance(like, Tensor) else next((t for t in like if isinstance(t, Tensor)), torch.empty(0))
        shape, dtype = self.shape(tensor) if tensor is like else (), tensor.dtype
        base = name or op.removeprefix(PREFIX).split(".")[0]
        value = Value(op, arguments, shape, dtype, f"{base}_{len(self.values)}", self.scope, grad)
        self.values.append(value)
        return value

    def _keep(self, tensor: object, value: object) -> None:
        self.known[id(tensor)] = value
        self.kept.append(tensor)

    def _record(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], output: object) -> None:
        if self._is_write(func, args, output):
            return
        arguments = self._bind(func, args, kwargs)
        call = Call(self, func, arguments, output)
        name = f"{func.namespace}.{func._schema.name.split('::')[1]}"
        translate = TRANSLATIONS.get(name)
        result = translate(call) if translate is not None else None
        if result is None:
            if func.namespace != "aten":
                raise NotFollowed(f"it calls {func}, an operator of another library")
            if is_random(str(func)):
                self.remarks.append(f"{self.scope or 'its forward'} draws random numbers ({func})")
            result = self.add(f"aten.{str(func).removeprefix('aten.')}", arguments, output)
        if isinstance(output, (list, tuple)):
            items = result if isinstance(result, list) else None
            for index, item in enumerate(output):
                if isinstance(item, Tensor):
                    self._keep(item, self._item(result, index, item) if items is None else items[index])
        elif isinstance(output, Tensor):
            self._keep(output, result)
            if func is torch.ops.aten.alias.default:
                assert isinstance(result, Value)
                self.same = (result, args[0], output)

    def _item(self, result: object, index: int, item: Tensor) -> Value:
        assert isinstance(result, Value)
        return self.add("item", {"x": result, "index": index}, item)

    def _is_write(self, func: Any, args: Sequence[Any], output: object) -> bool:
        """Functionalised PyTorch writes only to inputs, at the very end, or corrects strides."""
        if not func._schema.is_mutable:
            return False
        target = args[0] if args else None
        found = self.known.get(id(target))
        if func is torch.ops.aten.copy_.default and isinstance(found, Value) and found.op in (STATE, INPUT):
            if found.op == STATE and self.known.get(id(args[1])) is not MOVED_STATISTICS:
                self.updates[found["path"]] = self.value(args[1])
            return True
        if func is torch.ops.aten.as_strided_.default and found is not None:
            return True
        if str(func._schema.name) in ("aten::set_", "aten::resize_") and found is None:
            return True
        raise NotFollowed(f"it writes to a tensor that is no part of it ({func})")

    def _bind(self, func: Any, args: Sequence[object], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments by the names of the operator's schema."""
        bound: dict[str, Any] = {}
        for i, argument in enumerate(func._schema.arguments):
            if i < len(args) and not argument.kwarg_only:
                bound[argument.name] = self._argument(args[i])
            elif argument.name in kwargs:
                bound[argument.name] = self._argument(kwargs[argument.name])
            elif argument.has_default_value():
                bound[argument.name] = self._argument(argument.default_value)
        return bound

    def _argument(self, value: object) -> Any:
        if isinstance(value, Tensor):
            return self.value(value)
        if isinstance(value, (list, tuple)):
            return tuple(map(self._argument, value))
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return self.session.symbols.number(value)
        if isinstance(value, torch.SymBool):
            return bool(value)
        return value

    def _read(self, tensor: Tensor) -> Any:
        """The number in a tensor. Raises: NotFollowed where it depends on an input."""
        value = self.value(tensor)
        if _depends_on_inputs(value):
            raise NotFollowed("it decides by the values of a tensor that its input determines")
        state = {**self.session.tensors, **self.state}
        with _disable_current_modes(), torch.no_grad():
            (found,) = compute((value,), {}, state, self.sizes)
            number = found.item()
        paths = sorted({v["path"] for v in _ancestors(value) if v.op == STATE})
        if not all(path in self.state for path in paths):
            self.remarks.append(f"its forward decides by the value of {', '.join(paths)}, which is taken as it is now")
        return number


def _squeezed(self: Tensor, dim: int | Sequence[int] | None = None) -> list[Any]:
    """The sizes of the axes that a squeeze looks at."""
    dims = range(self.dim()) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    return [self.shape[axis] for axis in dims]


def _ancestors(value: Value) -> set[Value]:
    found: set[Value] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if item not in found:
            found.add(item)
            waiting += item.operands
    return found


def _depends_on_inputs(value: Value) -> bool:
    return any(v.op == INPUT or is_random(v.op) for v in _ancestors(value))
