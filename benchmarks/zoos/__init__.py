"""The networks that users bring, by where they come from: one of every family, with values as after training."""

from __future__ import annotations

# Each module has FAMILIES, a mapping whose keys are the families, and build(family) -> (network's name, network, x).
ZOOS = {
    "pytorchcv": "zoos.pytorchcv_families",
    "timm": "zoos.timm_families",
    "torchvision": "zoos.torchvision_families",
    "transformers": "zoos.transformers_families",
}
