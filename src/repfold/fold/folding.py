"""``fold``: a network's linear regions, each replaced by the one convolution that it equals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from repfold.errors import nearest
from repfold.fold.certificate import Certificate, LeftRegion
from repfold.fold.errors import FoldError
from repfold.fold.parts import fold_proved
from repfold.graph.copying import NotCopied, private_copy

POLICIES = {
    "auto": "fold where it does not cost more",
    "always": "fold wherever it is exact, also where that unties shared weights",
}

Progress = Callable[[str], None]


def fold(
    network: nn.Module, example: object, *, policy: str = "auto", progress: Progress = lambda stage: None
) -> tuple[nn.Module, Certificate]:
    """Replace every maximal linear region of ``network`` by one convolution or linear layer.

    Args:
        network: any network in eval mode; it is left untouched.
        example: an input of the shape and dtype that it takes, [N, C, *size] for images, or a tuple of its arguments.
            Batch size and image size stay free in the result.
        policy: "auto" folds a region when neither its parameters nor its multiply-adds grow; "always" whenever it is
            exact, which gives weights that several calls share to each of them separately.
        progress: called with what is being done, for a display.

    Returns: the plain network (an ordinary module in eval mode whose parameters train) and its certificate.

    Raises: FoldError when the network is in train mode, cannot run on the example, holds non-finite weights, is not a
    function of its input, or when the folded network does not compute the same.
    """
    if policy not in POLICIES:
        raise FoldError(f"unknown policy '{policy}'. {nearest(policy, POLICIES)}")
    _refuse_unfit(network)
    arguments = example if isinstance(example, tuple) else (example,)
    progress("running the network")
    try:
        result, plain, proof = fold_proved(private_copy(network), network, arguments, policy, progress=progress)
    except NotCopied as error:
        raise FoldError(
            f"{type(network).__name__} cannot be copied ({error}), and a fold never works on the network itself. Keep "
            "what cannot be copied (locks, files, handles) out of its attributes."
        ) from error
    dtype = str(_floating_dtype(network)).removeprefix("torch.")
    left = tuple(LeftRegion(name, reason) for name, reason in dict.fromkeys(result.left))
    return plain, Certificate(
        proof.relative,
        proof.absolute,
        tuple(result.regions),
        left,
        dtype,
        proof.sizes,
        (*result.remarks, *proof.caveats),
    )


def _refuse_unfit(network: nn.Module) -> None:
    if isinstance(network, torch.jit.ScriptModule):
        raise FoldError(
            "the network is a compiled torch.jit.script module. Fold the network that it was scripted from."
        )
    if network.training:
        raise FoldError(
            f"{type(network).__name__} is in train mode, where BatchNorm uses the batch's statistics and no "
            "convolution equals it. Call network.eval() first."
        )
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_meta:
            raise FoldError(f"{name} is on the meta device, without values. Load the network's weights first.")
    for name, tensor in network.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
            raise FoldError(
                f"{name} holds values that are not finite. Load the weights again, or train from a good one."
            )
    for name, module in network.named_modules():
        variance, eps = getattr(module, "running_var", None), getattr(module, "eps", 0.0)
        if isinstance(variance, Tensor) and not bool((variance + eps > 0).all()):
            raise FoldError(
                f"{name} has a running variance of 0 (or below, or not finite) and eps {eps}: its output is not "
                "finite. Give it an eps above 0, or train it on data whose channels vary."
            )


def _floating_dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)
