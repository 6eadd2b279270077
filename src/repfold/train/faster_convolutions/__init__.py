"""Convolutions that replace a network's own while it is trained on CPUs: the same functions, with better kernels."""

from repfold.train.faster_convolutions.small_maps import SmallMapConv2d, replace_small_maps
from repfold.train.faster_convolutions.strided_pointwise import SubsampledConv2d, replace_strided_pointwise

__all__ = ["SmallMapConv2d", "SubsampledConv2d", "replace_small_maps", "replace_strided_pointwise"]
