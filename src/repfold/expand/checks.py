"""Whether an expanded network still runs, and computes what it did: its forward may use more than calls show."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repfold.errors import RepFoldError
from repfold.expand.calls import NotFollowed, calls_of
from repfold.expand.folding import FoldError, output_of
from repfold.expand.sites import skeleton
from repfold.fold.compare import distance

# The largest difference of outputs that is rounding, relative to the largest output.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.float16: 5e-2, torch.bfloat16: 3e-1}


def check_runs(network: nn.Module, result: nn.Module, block: str) -> None:
    """Raises: RepFoldError when the forward could be traced before and cannot now."""
    for mode in (True, False):
        try:
            calls_of(skeleton(network).train(mode))
        except NotFollowed:
            continue
        try:
            calls_of(skeleton(result).train(mode))
        except NotFollowed as error:
            raise _no_longer_runs(network, block, error) from error


def check_equal(network: nn.Module, result: nn.Module, example: Tensor, block: str) -> None:
    """Raises: RepFoldError when the outputs on the example, in eval mode, differ by more than rounding."""
    before = output_of(skeleton(network).eval(), example)
    try:
        after = output_of(skeleton(result).eval(), example)
    except FoldError as refusal:
        raise _no_longer_runs(network, block, refusal) from refusal
    if not (isinstance(before, Tensor) and before.is_floating_point()):
        return
    error, _ = distance(after, before)
    if error > TOLERANCE.get(before.dtype, 1e-5):
        raise RepFoldError(
            f"Expanded by '{block}', {type(network).__name__} gives other outputs (relative error {error:.1e}). Its "
            "forward may use a convolution in a way that cannot be seen: find which with where=."
        )


def _no_longer_runs(network: nn.Module, block: str, error: Exception) -> RepFoldError:
    return RepFoldError(
        f"Expanded by '{block}', {type(network).__name__} no longer runs: its forward reads attributes of a "
        f"convolution or norm that was replaced ({error}). Leave that one out with where=."
    )
