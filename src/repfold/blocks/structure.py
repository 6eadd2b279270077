"""What a structure states beside its forward: whether it has norms, and how it equals a given convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn


class Structure(nn.Module):
    """A training-time structure, linear in eval mode: [N, in, H, W] -> [N, out, H', W'].

    One without norms takes ``bias``, by default False, as a network puts a BatchNorm behind it.
    """

    has_norms: ClassVar[bool] = True


@dataclass(frozen=True)
class Inverse:
    """Which parameters and norms of a structure take over a convolution and the BatchNorm behind it.

    kernel: takes the convolution's kernel.
    bias: takes its bias, in a structure without norms.
    norm: is replaced by the norm behind the convolution.
    through: a norm before that one, which is to pass on what it is given.
    quiet: the norms at the ends of the other branches, which start with scale 0.
    absorbs: the parameter, linear in the fold, that takes what the structure still lacks of the kernel; with L its part
        in the fold, L·Lᵀ = 1 on that difference.
    """

    kernel: Tensor | None = None
    bias: Tensor | None = None
    norm: nn.BatchNorm2d | None = None
    through: nn.BatchNorm2d | None = None
    quiet: tuple[nn.BatchNorm2d, ...] = ()
    absorbs: Tensor | None = None


class Invertible(Structure):
    """A structure that can equal a trained convolution, and so replace it."""

    # Whether it makes more of a 1x1 kernel than another 1x1 kernel. The papers of those that do not leave it as it is.
    enriches_1x1: ClassVar[bool] = False
    # The options of its own with which it replaces a convolution.
    replacement_options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def inverse(self) -> Inverse:
        """What of this structure takes over what of a convolution."""
        raise NotImplementedError

    def settle(self) -> None:
        """Bring the parameters, in place, to where ``inverse`` holds; its kernel and bias are taken over by then."""
