"""Online folding: branches that stay, and at every step are folded, with gradients, into the one convolution that runs.

After OREPA (Hu et al. 2022, "Online Convolutional Re-parameterization"): the gradient of the folded kernel flows back
through the fold into the branches, so they train exactly as if each had been run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from repfold.algebra import AffineConv
from repfold.algebra.affine import CONVOLUTIONS
from repfold.fold.branch_norms import norm_in_branch
from repfold.fold.certificate import certify
from repfold.fold.constants import arithmetic, attribute
from repfold.fold.errors import FoldError
from repfold.fold.pieces import Reading
from repfold.fold.plan import Plan, make_plan
from repfold.fold.rewrite import call_regions, name_regions
from repfold.fold.trace import Untraceable


class OnlineFold(nn.Module):
    """``network``, of which every sum of branches runs as one convolution while it trains.

    It owns nothing: parameters and buffers are those of ``network``, which goes on being the one to evaluate, save and
    fold. In eval mode, and where no gradients are wanted, the network itself is called.

    Args:
        network: a network whose branches hold no BatchNorm (one may follow their sum); its modules are used as they
            are, so whatever is to be replaced in it should be before.
        example: an input as for ``repfold.fold``, of two images at least where the network has BatchNorm.

    Raises: FoldError when nothing can be folded in train mode, or a region does not prove exact.
    """

    _graph: fx.GraphModule

    def __init__(self, network: nn.Module, example: Any) -> None:
        super().__init__()
        self.network = network
        self.example = example
        arguments = example if isinstance(example, tuple) else (example,)
        plan = _plan(network, arguments, training=True)
        if not plan.regions:
            raise FoldError(_nothing_to_fold(network, arguments, plan))
        self.regions = len(plan.regions)
        # Hidden from nn.Module: its modules are those of ``network``, and are to be counted once.
        object.__setattr__(self, "_graph", _graph(plan, network))

    def forward(self, *arguments: Any) -> Any:
        """As the network's own."""
        folds = self.network.training and torch.is_grad_enabled()
        return self._graph(*arguments) if folds else self.network(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnlineFold:
        return OnlineFold(copy.deepcopy(self.network, memo), self.example)


class _OnlineConvolution(nn.Module):
    """One region: its kernel, built from the branches' weights as they are now, and its convolution."""

    def __init__(self, reading: Reading, dtype: torch.dtype) -> None:
        super().__init__()
        self.reading = reading
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False), arithmetic(torch.promote_types(self.dtype, torch.float32)):
            conv = self.reading.build().to(self.dtype)
        return convolve(conv, x)


def convolve(conv: AffineConv, x: Tensor) -> Tensor:
    """``conv(x)``, by PyTorch's own layers where these have its geometry."""
    axes = conv.geometry.axes
    if not axes and conv.geometry.groups == 1:
        return F.linear(x, conv.weight, conv.bias)
    symmetric = all(axis.low == axis.high >= 0 and axis.upsampling == 1 for axis in axes)
    if not axes or not symmetric or (conv.geometry.pads and conv.geometry.mode != "zeros"):
        return conv(x)
    return CONVOLUTIONS[len(axes)](
        x,
        conv.weight,
        conv.bias,
        stride=[axis.stride for axis in axes],
        padding=[axis.low for axis in axes],
        dilation=[axis.dilation for axis in axes],
        groups=conv.geometry.groups,
    )


def _plan(network: nn.Module, arguments: tuple[Any, ...], training: bool) -> Plan:
    """The plan in train or eval mode; the network keeps its mode and its buffers."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        return make_plan(network.train(training), arguments)
    except Untraceable as error:
        raise FoldError(
            f"{type(network).__name__} cannot be traced as a whole, so not folded online: {error}"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _nothing_to_fold(network: nn.Module, arguments: tuple[Any, ...], plan: Plan) -> str:
    norm = norm_in_branch(plan, _plan(network, arguments, training=False))
    if norm is None:
        return f"{type(network).__name__} has no branches, so there is nothing to fold online. Train it as it is."
    return (
        f"{type(network).__name__} cannot be folded online: {norm} is a BatchNorm inside a branch, and its statistics "
        "need that branch's output. Use blocks with one norm after the sum (block=csla, say), or train it as it is."
    )


def _graph(plan: Plan, network: nn.Module) -> fx.GraphModule:
    graph, calls = call_regions(plan)
    ours = set(calls)
    modules: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr") and node not in ours:
            target = str(node.target)
            modules[target] = network.get_submodule(target) if node.op == "call_module" else attribute(network, target)
    names = name_regions(plan, set(modules))
    for region, call, name in zip(plan.regions, calls, names, strict=True):
        with torch.no_grad():
            conv = region.reading.build()
            dtype = plan.traced.values[region.target].dtype
            certify(plan.traced, plan.constants, region, name, conv, conv.to(dtype))
        call.target = name
        modules[name] = _OnlineConvolution(region.reading, dtype)
    return fx.GraphModule(modules, graph, f"OnlineFold{type(network).__name__}")
