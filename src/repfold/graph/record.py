"""The door from PyTorch: a network's forward, run once on tensors without values, as a graph.

Python code is not analysed: PyTorch runs the forward on its own symbolic sizes and makes every in-place write and
alias functional, and the operators that reach its dispatcher are recorded with the names of their arguments. A
decision by the values of an input cannot be followed; one by sizes is, and becomes a check of the graph.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

from repfold.errors import first_line
from repfold.graph import own_gradients
from repfold.graph.composites import Composites, Marks
from repfold.graph.copying import private_copy, register_plain_tensors
from repfold.graph.decisions import SizeDecisions
from repfold.graph.graph import Check, Graph, Value, with_sizes
from repfold.graph.module import GraphNetwork
from repfold.graph.recorder import NotFollowed, Recorder, TooSlow
from repfold.graph.sizes import Expression, size_of
from repfold.graph.structure import UnknownContainer, rebuild, take_apart
from repfold.graph.symbols import Symbols

# For following free sizes, of a hundred layers or fewer, and so many more of more; after that they are fixed to the
# example's.
SECONDS = 10.0

Freedom = Literal["batch and image size", "batch size", "nothing"]
IMAGES, BATCH, NOTHING = get_args(Freedom)

__all__ = ["NotFollowed", "Recorded", "record"]


@dataclass(frozen=True)
class Recorded:
    """A network as a graph.

    Args:
        state: the tensors of the graph's "state" values, by path: the network's own, not copies.
        copy: the private copy of the network that was run, its modules as they were.
        output: what the network returned, its tensor leaves the graph's output Values.
        arguments: what it was called with, its tensor leaves the graph's input Values.
        remarks: notes for the user on how it was followed.
    """

    graph: Graph
    state: dict[str, Tensor]
    copy: nn.Module
    arguments: tuple[Any, ...]
    output: Any
    remarks: tuple[str, ...] = ()

    def rewritten(self, graph: Graph, state: dict[str, Tensor]) -> Recorded:
        """The same call, computed by another graph of as many inputs and outputs."""
        inputs, outputs = iter(graph.inputs), iter(graph.outputs)
        arguments = rebuild(self.arguments, lambda leaf: next(inputs) if isinstance(leaf, Value) else leaf)
        output = rebuild(self.output, lambda leaf: next(outputs) if isinstance(leaf, Value) else leaf)
        return replace(self, graph=graph, state=state, arguments=arguments, output=output)


def record(network: nn.Module, arguments: tuple[object, ...], *, seconds: float = SECONDS) -> Recorded:
    """The graph of ``network`` called with ``arguments``, in the mode it is in; it is left untouched.

    Batch and image size stay free where its forward lets them; where following them takes more than ``seconds`` for a
    hundred layers, they are fixed to the example's and a remark says so. Raises: NotFollowed, NotCopied.
    """
    if isinstance(network, GraphNetwork) and any(value.op == "onnx_node" for value in network.repfold_graph.values):
        return _carried(network, arguments)
    remarks: tuple[str, ...] = ()
    layers = sum(not any(module.children()) for module in network.modules())
    seconds *= max(1.0, layers / 100)
    for free, limit, remark in (
        (IMAGES, seconds, ""),
        (BATCH, seconds, "only the batch size is free: following free image sizes through its forward {}"),
        (NOTHING, float("inf"), "all sizes are fixed to the example's: following free ones through its forward {}"),
    ):
        try:
            recorded = _record_freest(network, arguments, free=free, seconds=limit)
        except TooSlow:
            remarks = (f"took more than {limit:.0f} s",)
        except NotFollowed as error:
            if free is NOTHING:
                raise
            remarks = (f"ended in {error}",)
        else:
            if not recorded.graph.holds_for_example:  # a batch of one, that was recorded as two
                remarks = ("fixed the batch size",)
                continue
            if remarks:
                return replace(recorded, remarks=(*recorded.remarks, remark.format(remarks[0])))
            return recorded
    raise AssertionError("sizes that are fixed are followed without a limit")


def _carried(network: GraphNetwork, arguments: tuple[object, ...]) -> Recorded:
    """The graph that a network carries: it may hold kept ONNX nodes, which PyTorch cannot trace."""
    tensors = [leaf for leaf in take_apart(arguments) if isinstance(leaf, Tensor)]
    sizes = {(index, axis): size for index, x in enumerate(tensors) for axis, size in enumerate(x.shape)}
    named = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    graph = replace(network.repfold_graph, sizes=sizes)
    state = {path: tensor for path, tensor in named if path in {value["path"] for value in graph.state}}
    return Recorded(graph, state, private_copy(network), network.repfold_arguments, network.repfold_output)


def _record_freest(network: nn.Module, arguments: tuple[object, ...], *, free: Freedom, seconds: float) -> Recorded:
    """The graph recorded with the example's sizes, or with larger ones where those leave more sizes free.

    A slice that ends where the example does, say, looks as if it fixed the image's size; and so does a map that came
    down to one pixel, which PyTorch takes for one that always does.
    """
    freest = _record(network, arguments, free=free, seconds=seconds)
    for enlarged in (2, 8) if free == IMAGES else ():
        if not _fixed_axes(freest.graph):
            break
        try:
            other = _record(network, arguments, free=free, seconds=seconds, enlarged=enlarged)
        except (NotFollowed, TooSlow):
            break
        if len(_fixed_axes(other.graph)) < len(_fixed_axes(freest.graph)) and other.graph.holds_for_example:
            freest = other
    return freest


def _fixed_axes(graph: Graph) -> list[Check]:
    """The checks that fix an axis of an image to a number, or of a map computed from it to one."""
    fixing = [check for check in graph.checks if check.fixes or _is_one(check.condition)]
    pairs = [(check, *check.condition.operands) for check in fixing]
    of_images = [(check, number) for check, size, number in pairs if size.op != "size" or size.operands[1] > 1]
    return [check for check, number in of_images if isinstance(number, int)]


def _is_one(condition: Expression) -> bool:
    return condition.op == "==" and condition.operands[1] == 1


def _record(
    network: nn.Module, arguments: tuple[object, ...], *, free: Freedom, seconds: float, enlarged: int = 1
) -> Recorded:
    twin = private_copy(network)
    register_plain_tensors(twin)
    session = _Session(twin, free=free, seconds=seconds, enlarged=enlarged)
    try:
        given = session.enter(arguments)
        with session.running():
            output = torch.func.functionalize(session.call, remove="mutations")(session.fakes, given)
    except (TooSlow, NotFollowed):
        raise
    except Exception as error:  # the user's forward runs here: anything can come out
        cause = _cause(error)
        if isinstance(cause, (TooSlow, NotFollowed)):
            raise cause from error
        raise NotFollowed(f"{type(error).__name__}: {first_line(error)}") from error
    return session.result(network, arguments, output)


@contextmanager
def _without_onednn() -> Iterator[None]:
    """With it, a recurrent layer is one operator whose values are not those of the layer, and which float64 lacks."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


class _Session:
    """One run of a forward: its fake tensors, and the recording."""

    def __init__(self, twin: nn.Module, *, free: Freedom, seconds: float, enlarged: int) -> None:
        self.twin = twin
        self.free = free
        self.enlarged = enlarged
        self.env = SizeDecisions() if free != NOTHING else None
        self.mode = FakeTensorMode(shape_env=self.env, allow_non_fake_inputs=True)
        self.mode.cache_enabled = False  # most calls of one run differ, and symbolic sizes make keys dear
        named = [*twin.named_parameters(remove_duplicate=False), *twin.named_buffers(remove_duplicate=False)]
        self.paths: dict[int, str] = {}
        for path, tensor in named:
            self.paths.setdefault(id(tensor), path)
        self.tensors = {path: tensor for path, tensor in named if self.paths[id(tensor)] == path}
        self.fakes = {path: self.mode.from_tensor(t.detach(), static_shapes=True) for path, t in self.tensors.items()}
        self.symbols = Symbols(self.env)
        self.recorder = Recorder(self, time.thread_time() + seconds)
        for path, fake in self.fakes.items():
            self.recorder.name_state(path, fake)
        self.shared = {path: self.paths[id(tensor)] for path, tensor in named if self.paths[id(tensor)] != path}

    @contextmanager
    def running(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(enable_python_dispatcher())  # shape rules for symbolic sizes, where operators lack them
            stack.enter_context(_without_onednn())
            stack.enter_context(self.mode)
            stack.enter_context(self.recorder)
            stack.enter_context(torch.enable_grad())
            yield

    def enter(self, arguments: tuple[object, ...]) -> tuple[Any, ...]:
        """The arguments with fake tensors."""
        tensors = [leaf for leaf in take_apart(arguments) if isinstance(leaf, Tensor)]
        twice = self.free != NOTHING and bool(tensors) and all(t.dim() > 1 and t.shape[0] == 1 for t in tensors)

        def fake(leaf: object) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            # A batch of one would be taken for a size that is always one.
            shape = [2 if twice else size for size in leaf.shape[:1]] + list(leaf.shape[1:2])
            shape += [size * self.enlarged for size in leaf.shape[2:]]
            example = torch.empty(shape, dtype=leaf.dtype, device=leaf.device)
            value = self._fake(example)
            self.recorder.name_input(value, leaf)
            return value

        fakes: tuple[Any, ...] = rebuild(arguments, fake)
        return fakes

    def _fake(self, example: Tensor) -> Tensor:
        if self.free == NOTHING:
            return self.mode.from_tensor(example, static_shapes=True)
        kinds = [DimDynamic.DYNAMIC] * example.dim()
        if self.free == BATCH:
            kinds[1:] = [DimDynamic.STATIC] * (example.dim() - 1)
        if example.dim() > 1:
            kinds[1] = DimDynamic.STATIC  # channels
        context: Any = StatelessSymbolicContext(dynamic_sizes=kinds)
        source = ConstantSource(f"input{len(self.recorder.inputs)}")
        return self.mode.from_tensor(example, symbolic_context=context, source=source)

    def with_plain_sizes(self, output: Any) -> Any:
        """The output of a convolution or pool with a symbol for each computed size: long expressions are slow."""
        if isinstance(output, (tuple, list)):
            return tuple(self.with_plain_sizes(item) for item in output)
        sizes = [self.symbols.plain(size, self.env) for size in output.shape]
        return (
            output if all(new is old for new, old in zip(sizes, output.shape, strict=True)) else output.new_empty(sizes)
        )

    def call(self, state: dict[str, Tensor], arguments: tuple[object, ...]) -> Any:
        watching = Marks(self.twin, self.recorder).watching()
        with Composites(self.recorder), watching, own_gradients.followed(self.twin, self._loses_gradient):
            output = torch.func.functional_call(self.twin, state, arguments)
        try:
            self.output = output
            return [leaf for leaf in take_apart(output) if isinstance(leaf, Tensor)]
        except UnknownContainer as unknown:
            raise NotFollowed(f"it returns {unknown}") from unknown

    def _loses_gradient(self, function: type[torch.autograd.Function]) -> None:
        if self.twin.training:
            raise NotFollowed(f"{function.__name__} has a gradient of its own, which a graph does not hold")
        self.recorder.remarks.append(
            f"the gradient of its own that {function.__name__} has is not kept, which training would use"
        )

    def result(self, network: nn.Module, arguments: tuple[object, ...], leaves: list[Tensor]) -> Recorded:
        recorder = self.recorder
        outputs = tuple(recorder.value(leaf) for leaf in leaves)
        graph = Graph(
            inputs=tuple(recorder.inputs),
            values=tuple(recorder.values),
            outputs=outputs,
            updates=recorder.updates,
            checks=self._checks(),
            sizes=recorder.sizes,
        )
        graph = with_sizes(graph, self._fixed()).pruned()
        used = {value["path"] for value in graph.state} | graph.updates.keys()
        theirs = dict(
            [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
        )
        known = {**self.tensors, **recorder.state, **theirs}
        state = {path: known[path] for path in used}
        inputs, waiting = iter(graph.inputs), iter(graph.outputs)
        given = rebuild(arguments, lambda leaf: next(inputs) if isinstance(leaf, Tensor) else leaf)
        output = rebuild(self.output, lambda leaf: next(waiting) if isinstance(leaf, Tensor) else self._plain(leaf))
        return Recorded(graph, state, self.twin, given, output, tuple(dict.fromkeys(recorder.remarks)))

    def _plain(self, leaf: object) -> Any:
        if isinstance(leaf, (torch.SymInt, torch.SymFloat, torch.SymBool)):
            return self.symbols.number(leaf)
        return leaf

    def _fixed(self) -> dict[Expression, Any]:
        """The input sizes, and those computed from them, that are not free, with the values that they must have."""
        found: dict[Expression, Any] = {}
        for index, shape in enumerate(self.recorder.shapes):
            for axis, size in enumerate(shape):
                known, leaf = self.symbols.number(size), size_of(index, axis)
                if known != leaf:
                    found[leaf] = known
        for computed, known in self.symbols.tied():
            found[computed] = known
        return found

    def _checks(self) -> tuple[Check, ...]:
        """The conditions for sizes that are not free, and those that the forward branched on."""
        fixed = {Expression("==", pair): "its forward fixes this size" for pair in self._fixed().items()}
        checks: dict[Expression, str] = {}
        if self.env is not None:
            for condition, line in self.env.decisions:
                expression = self.symbols.condition(condition)
                if isinstance(expression, Expression):
                    checks.setdefault(expression, f"its forward decides by it ({line})")
            for size in self.env.ones:
                expression = Expression("==", (self.symbols.condition(size), 1))
                checks.setdefault(expression, "on the example it is one, and PyTorch's shape rules went by that")
        decided = {condition: reason for condition, reason in checks.items() if condition not in fixed}
        return (
            *(Check(condition, reason, fixes=True) for condition, reason in fixed.items()),
            *(Check(condition, reason) for condition, reason in decided.items()),
        )
