"""RepVGG's own L2 penalty (Ding et al. 2021, the authors' "custom L2"): on the kernel that the branches amount to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repfold.blocks.repvgg import RepVGGBranches
from repfold.errors import RepFoldError


@dataclass(frozen=True)
class EquivalentL2:
    """The penalty of ``blocks``; their kernels, ``kernels``, are then not to be decayed by the optimizer as well."""

    blocks: tuple[RepVGGBranches, ...]

    def __call__(self, weight_decay: float) -> Tensor:
        """Return λ/2 · Σ over blocks, whose gradient is that of weight decay λ where only one branch has a tap."""
        return weight_decay / 2 * torch.stack([equivalent_l2(block) for block in self.blocks]).sum()

    @property
    def kernels(self) -> frozenset[nn.Parameter]:
        """The convolutions' weights of the blocks."""
        branches = [branch for block in self.blocks for branch in (block.kxk, block.point)]
        return frozenset(branch.get_parameter("conv.weight") for branch in branches)


def equivalent_l2(block: RepVGGBranches) -> Tensor:
    """Return ‖K3‖² without its centre, plus Σ (K3c·t3 + K1·t1)² / (t3² + t1²) on the centre tap; a scalar.

    t = γ/√(σ² + ε) of each branch, without gradient; the identity branch is left out. Divided by t3² + t1², the centre
    is penalised as strongly as the kernels themselves would be, whatever the norms' scales.
    """
    full_OIHW, point_OI11 = (branch.get_parameter("conv.weight") for branch in (block.kxk, block.point))
    centre = full_OIHW.shape[-1] // 2
    centre_OI11 = full_OIHW[:, :, centre : centre + 1, centre : centre + 1]
    t_full, t_point = _scale(block.kxk), _scale(block.point)
    equivalent_OI11 = centre_OI11 * t_full + point_OI11 * t_point
    around = full_OIHW.square().sum() - centre_OI11.square().sum()
    return around + (equivalent_OI11.square() / (t_full.square() + t_point.square())).sum()


def equivalent_l2_of(network: nn.Module) -> EquivalentL2:
    """Return the penalty of all RepVGG blocks in ``network``. Raises: RepFoldError when it has none."""
    blocks = tuple(module for module in network.modules() if isinstance(module, RepVGGBranches))
    if not blocks:
        raise RepFoldError("custom_l2 is on the kernels of RepVGG blocks, but the network has none: turn it off.")
    norms = [branch.get_submodule("norm") for block in blocks for branch in (block.kxk, block.point)]
    if not all(isinstance(norm, nn.BatchNorm2d) for norm in norms):
        raise RepFoldError("custom_l2 needs RepVGG blocks with BatchNorm, whose scales it takes: turn it or norm off.")
    return EquivalentL2(blocks)


def _scale(branch: nn.Module) -> Tensor:
    """t = γ/√(σ² + ε) of a branch's norm, [O, 1, 1, 1], no gradient."""
    norm = branch.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    scale_O = (norm.running_var + norm.eps).rsqrt() * norm.weight
    return scale_O.detach().view(-1, 1, 1, 1)
