"""What a layer or a region costs to run: what the fold weighs, and a profile shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Cost:
    """What is not counted is 0; the fold counts parameters and multiply-adds, of one example.

    parameters: learned numbers. The fold leaves biases out, which ride on the accumulators.
    multiply_adds: of convolutions and matrix products; of norms one per value.
    traffic: values read and written, weights included, each operator for itself (ShuffleNet V2, arXiv:1807.11164).
    winograd: multiplies where every 3x3 convolution of stride and dilation 1 runs as F(2x2, 3x3), else multiply_adds.
    """

    parameters: int = 0
    multiply_adds: int = 0
    traffic: int = 0
    winograd: int = 0

    def __add__(self, other: Cost) -> Self:
        return dataclasses.replace(
            self,
            parameters=self.parameters + other.parameters,
            multiply_adds=self.multiply_adds + other.multiply_adds,
            traffic=self.traffic + other.traffic,
            winograd=self.winograd + other.winograd,
        )

    def __le__(self, other: Cost) -> bool:
        """Whether no measure is larger."""
        return (
            self.parameters <= other.parameters
            and self.multiply_adds <= other.multiply_adds
            and self.traffic <= other.traffic
            and self.winograd <= other.winograd
        )


NOTHING = Cost()


@dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """The cost of a module's own operators; ``name`` is its path, "" the network itself."""

    name: str
    kind: str
