"""Which pixels mattered: class activation maps, read off the graph of a folded network."""

from __future__ import annotations

import torch
from torch import Tensor

from repfold.graph.graph import INPUT, Graph, Value
from repfold.graph.interpret import compute
from repfold.graph.module import GraphNetwork
from repfold.graph.sizes import evaluate

# The deepest map of at least so many pixels a side is looked at: deeper ones show too little, earlier ones mean less.
ENOUGH = 7


def class_activation(network: GraphNetwork, x_NCHW: Tensor, classes_N: Tensor) -> Tensor | None:
    """Return how much each place of the images spoke for the class ``classes_N[n]``, float32 [N, h, w] in 0..1.

    LayerCAM (Jiang et al., 2021, equations 3 to 5): with A the activations of a layer and y the logit of the class,

        M_hw = relu(Σ_c relu(∂y/∂A_chw) · A_chw)

    which at the last layer before a global average pool and a linear layer with positive weights is the class
    activation map of Zhou et al. (2016). Each map is scaled so that its largest value is 1; a map of zeros says that
    nothing spoke for the class.

    Returns: None where the network has no layer of two or more pixels a side that all of it goes through.
    """
    graph = network.repfold_graph
    sizes = {(0, axis): size for axis, size in enumerate(x_NCHW.shape)}
    layer = layer_to_show(graph, (int(x_NCHW.shape[2]), int(x_NCHW.shape[3])))
    if layer is None or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    state = {path: tensor.detach() for path, tensor in network.state_dict().items()}
    with torch.no_grad():
        (activation_NCHW,) = compute((layer,), {graph.inputs[0]: x_NCHW}, state, sizes)
    activation_NCHW = activation_NCHW.detach().requires_grad_()
    with torch.enable_grad():
        (logits_NK,) = compute(graph.outputs, {layer: activation_NCHW}, state, sizes)
        chosen = logits_NK.gather(1, classes_N[:, None]).sum()
        (gradient_NCHW,) = torch.autograd.grad(chosen, activation_NCHW)
    map_NHW: Tensor = (gradient_NCHW.relu() * activation_NCHW.detach()).sum(dim=1).relu().float()
    highest_N11 = map_NHW.amax(dim=(1, 2), keepdim=True)
    scaled_NHW: Tensor = map_NHW / highest_N11.clamp(min=torch.finfo(torch.float32).tiny)
    return scaled_NHW


def layer_to_show(graph: Graph, size: tuple[int, int]) -> Value | None:
    """Return the layer whose activations are looked at: the deepest of ``ENOUGH`` pixels a side, else the largest.

    Only layers that the output is computed from alone come into question, or a part of what mattered would be missed.
    ``size``: height and width of the images.
    """
    found: list[tuple[int, Value]] = []
    for value in graph.values:
        if value.op == INPUT or len(value.shape) != 4 or not value.dtype.is_floating_point or not value.grad:
            continue
        side = min(_sides(graph, value, size))
        if side > 1 and _decides(graph, value):
            found.append((side, value))
    enough = [value for side, value in found if side >= ENOUGH]
    if enough:
        return enough[-1]
    largest = max((side for side, _ in found), default=0)
    return next((value for side, value in reversed(found) if side == largest), None)


def _sides(graph: Graph, value: Value, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a value for images of ``size``; (0, 0) for what does not come of images."""
    if not graph.inputs or len(graph.inputs[0].shape) != 4:
        return 0, 0
    example = dict(graph.sizes) | {(0, 2): size[0], (0, 3): size[1]}
    height, width = (evaluate(axis, example) for axis in value.shape[2:])
    return int(height), int(width)


def _decides(graph: Graph, value: Value) -> bool:
    """Whether the outputs are computed from ``value`` and from nothing else of the inputs."""
    waiting, seen, reached = list(graph.outputs), {value}, False
    while waiting:
        current = waiting.pop()
        reached = reached or current is value
        if current in seen:
            continue
        seen.add(current)
        if current.op == INPUT:
            return False
        waiting += current.operands
    return reached
