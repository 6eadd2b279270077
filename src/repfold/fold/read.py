"""Reading a traced graph: every node as a piece of the algebra, or opaque with the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod

from torch import Tensor, fx, nn

from repfold.algebra import Geometry
from repfold.fold.calls import CALLS, FUNCTIONS
from repfold.fold.constants import Constants, has_derived_weight
from repfold.fold.context import Context
from repfold.fold.pieces import CHANNELS_LAST, CHANNELS_SECOND, Apply, Cost, Opaque, Piece, Unfoldable
from repfold.fold.read_channels import Moved, move, read_moved, read_slice
from repfold.fold.read_modules import CONVOLUTIONS, MODULES, NORMS
from repfold.fold.trace import Traced

OLD_NORM_HOOKS = ("WeightNorm", "SpectralNorm")


def read(traced: Traced, *, untie: bool = False) -> tuple[dict[fx.Node, Piece], Constants]:
    """Every node's piece, and the nodes that are constants. Shared weights are opaque, unless they may be untied."""
    constants = Constants(traced.root, traced.graph, traced.pinned)
    context = Context(traced, constants)
    calls = Counter(str(node.target) for node in traced.graph.nodes if node.op == "call_module")
    pieces: dict[fx.Node, Piece] = {}
    moved: dict[fx.Node, Moved] = {}
    for node in traced.graph.nodes:
        state = move(traced, moved, node)
        if state is not None:
            moved[node] = state
        try:
            piece = _read_node(context, node, Counter() if untie else calls, state)
        except Unfoldable as refusal:
            piece = Opaque(str(refusal))
        pieces[node] = _checked(traced, node, piece)
    if not untie:
        _refuse_shared_weights(context, pieces)
    return pieces, constants


def _read_node(context: Context, node: fx.Node, calls: Counter[str], state: Moved | None) -> Piece:
    traced = context.traced
    if node in traced.pinned:
        return Opaque("its storage is written to in place through another view of it")
    if node in context.constants.nodes or not isinstance(traced.values.get(node), Tensor):
        return Opaque()
    if node.op == "call_module":
        return _read_module(context, node, calls)
    found = read_slice(traced, node) or (read_moved(traced, state) if state is not None else None)
    if found is not None:
        return found
    call = CALLS.get(node.target) if node.op == "call_method" else FUNCTIONS.get(node.target)  # type: ignore[arg-type]
    return call.reader(context, node, call.bind(node)) if call is not None else Opaque()


def _read_module(context: Context, node: fx.Node, calls: Counter[str]) -> Piece:
    module = context.traced.module(node)
    kind = next((cls for cls in type(module).__mro__ if cls in MODULES), None)
    if kind is None or len(node.args) != 1 or node.kwargs:
        return Opaque()
    if calls[str(node.target)] > 1 and any(True for _ in module.parameters()):
        return Opaque("the module is called more than once; a fold would untie its weights (policy 'always' does)")
    if _has_foreign_hooks(module):
        return Opaque("it has hooks, which a fold would drop")
    (source,) = node.args
    assert isinstance(source, fx.Node)
    reading = MODULES[kind](module, context.shape(source))
    learned = sum(p.numel() for name, p in module.named_parameters() if not name.endswith("bias"))
    if kind in NORMS:
        return Apply(source, reading, Cost(2 * context.shape(source)[1]), is_norm=True)
    is_kernel = kind in CONVOLUTIONS
    geometry = reading.geometry
    is_pool = not learned and not geometry.is_pointwise and kind.__name__.startswith("AvgPool")
    learned = geometry.weight_count if is_kernel else learned
    return Apply(
        source,
        reading,
        Cost(learned),
        is_kernel,
        is_kernel and has_derived_weight(module),
        is_free=not (is_kernel or is_pool),
    )


def _has_foreign_hooks(module: nn.Module) -> bool:
    foreign = [h for h in module._forward_pre_hooks.values() if type(h).__name__ not in OLD_NORM_HOOKS]
    return bool(foreign or module._forward_hooks)


def _checked(traced: Traced, node: fx.Node, piece: Piece) -> Piece:
    """The piece with its multiply-adds, or opaque where the tensors are not laid out as the reading takes them."""
    if not isinstance(piece, Apply):
        return piece
    shape, out_shape = traced.shape(piece.source), traced.shape(node)
    geometry, axis = piece.reading.geometry, piece.reading.channel_axis
    if shape is None or out_shape is None:
        return Opaque()
    if axis == CHANNELS_LAST and len(shape) == 2:
        axis = CHANNELS_SECOND
    dimensions = len(shape) - 2 if axis == CHANNELS_SECOND else 0
    if len(shape) < 2 or dimensions != len(geometry.axes) or shape[axis] != geometry.in_channels:
        return Opaque()
    expected = geometry.output_size(shape[2:]) if dimensions else shape[2:]
    if axis == CHANNELS_SECOND and out_shape[1:] != (geometry.out_channels, *expected):
        return Opaque()
    cost = piece.cost
    if not piece.is_free and not cost.multiply_adds:
        cost = replace(cost, multiply_adds=multiply_adds(geometry, shape, out_shape, axis))
    return replace(piece, reading=replace(piece.reading, channel_axis=axis), cost=cost)


def multiply_adds(geometry: Geometry, in_shape: tuple[int, ...], out_shape: tuple[int, ...], channel_axis: int) -> int:
    """Multiply-adds for one example; zeros inserted by a transposed convolution are not counted."""
    if channel_axis == CHANNELS_LAST:
        return geometry.weight_count * prod(out_shape[1:-1])
    transposed = any(axis.upsampling > 1 for axis in geometry.axes)
    return geometry.weight_count * prod(in_shape[2:] if transposed else out_shape[2:])


def _refuse_shared_weights(context: Context, pieces: dict[fx.Node, Piece]) -> None:
    """A parameter read by several convolutions stays tied: none of them is folded."""
    uses: dict[str, list[fx.Node]] = {}
    for node, piece in pieces.items():
        if isinstance(piece, Apply) and node.op != "call_module":
            operands = [n for n in node.all_input_nodes if n in context.constants.nodes]
            names: set[str] = (
                set().union(*(context.constants.parameters_of(n) for n in operands)) if operands else set()
            )
            for name in names:
                uses.setdefault(name, []).append(node)
    for name, nodes in uses.items():
        kernels = [node for node in nodes if getattr(pieces[node], "is_kernel", False)]
        if len(kernels) > 1:
            for node in kernels:
                pieces[node] = Opaque(f"its weight {name} is used more than once; a fold would untie it")
