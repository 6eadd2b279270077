"""Online folding: branches that stay, and at every step are folded, with gradients, into the one convolution that runs.

After OREPA (Hu et al. 2022, "Online Convolutional Re-parameterization"): the gradient of the folded kernel flows back
through the fold into the branches, so they train exactly as if each had been run.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from repfold.fold.branch_norms import norm_in_branch
from repfold.fold.errors import FoldError
from repfold.fold.plan import Plan, make_plan
from repfold.fold.rewrite import layer_tensors, name_regions, rewrite
from repfold.graph.copying import NotCopied, private_copy
from repfold.graph.graph import Value
from repfold.graph.interpret import compute
from repfold.graph.record import NotFollowed
from repfold.graph.structure import rebuild, take_apart


class OnlineFold(nn.Module):
    """``network``, of which every sum of branches runs as one convolution while it trains.

    It owns nothing: parameters and buffers are those of ``network``, which goes on being the one to evaluate, save and
    fold. In eval mode, and where no gradients are wanted or the sizes are others than it was made for, the network
    itself is called.

    Args:
        network: a network whose branches hold no BatchNorm (one may follow their sum); its modules are used as they
            are, so replace modules before, not after.
        example: an input as for ``repfold.fold``, of two images at least where the network has BatchNorm.

    Raises: FoldError when nothing can be folded in train mode, or a region does not prove exact.
    """

    def __init__(self, network: nn.Module, example: object) -> None:
        super().__init__()
        self.network = network
        self.example = example
        arguments = example if isinstance(example, tuple) else (example,)
        plan = _plan(network, arguments, training=True)
        if not plan.regions:
            raise FoldError(_nothing_to_fold(network, arguments, plan))
        self.regions = len(plan.regions)
        self._plan = plan
        self._names = name_regions(plan)
        self._folded = plan.recorded.rewritten(rewrite(plan).graph, {})

    def forward(self, *arguments: object) -> Any:
        """The network's forward, with its branches folded while gradients are recorded."""
        graph = self._folded.graph
        tensors = [leaf for leaf in take_apart(arguments) if isinstance(leaf, Tensor)]
        sizes = {(i, axis): n for i, x in enumerate(tensors) for axis, n in enumerate(x.shape)}
        folds = self.network.training and torch.is_grad_enabled() and len(tensors) == len(graph.inputs)
        if not folds or not all(check.holds(sizes) for check in graph.checks):
            return self.network(*arguments)
        state = self._state()
        values = [*graph.outputs, *graph.updates.values()]
        found = compute(tuple(values), dict(zip(graph.inputs, tensors, strict=True)), state, sizes)
        with torch.no_grad():
            for path, tensor in zip(graph.updates, found[len(graph.outputs) :], strict=True):
                state[path].copy_(tensor)
        results = iter(found)
        return rebuild(self._folded.output, lambda leaf: next(results) if isinstance(leaf, Value) else leaf)

    def _state(self) -> dict[str, Tensor]:
        """The network's tensors as they are now, and the kernels that its branches fold to."""
        named = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        state = {path: named.get(path, tensor) for path, tensor in self._plan.recorded.state.items()}
        for region, name in zip(self._plan.regions, self._names, strict=True):
            dtype = torch.promote_types(region.target.dtype, torch.float32)
            with torch.autocast(_region_device(state), enabled=False):
                state |= layer_tensors(region.reading.build(state, dtype), region, name)
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> OnlineFold:
        return OnlineFold(copy.deepcopy(self.network, memo), self.example)


def _region_device(state: dict[str, Tensor]) -> str:
    return next(iter(state.values())).device.type


def _plan(network: nn.Module, arguments: tuple[object, ...], training: bool) -> Plan:
    """The plan in train or eval mode; the network keeps its own."""
    try:
        if network.training == training:
            return make_plan(network, arguments)
        plan = make_plan(private_copy(network).train(training), arguments)
    except (NotFollowed, NotCopied) as error:
        raise FoldError(
            f"{type(network).__name__} cannot be followed as a whole, so not folded online: {error}"
        ) from error
    return plan


def _nothing_to_fold(network: nn.Module, arguments: tuple[object, ...], plan: Plan) -> str:
    norm = norm_in_branch(plan, _plan(network, arguments, training=False))
    if norm is None:
        return f"{type(network).__name__} has no branches, so there is nothing to fold online. Train it as it is."
    return (
        f"{type(network).__name__} cannot be folded online: {norm} is a BatchNorm inside a branch, and its statistics "
        "need that branch's output. Use blocks with one norm after the sum (block=csla, say), or train it as it is."
    )
