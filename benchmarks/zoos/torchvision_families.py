"""torchvision's classifiers, the smallest network of each family. pip install torch torchvision"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from zoos.trained import as_trained

# Family -> the network, and the side of its images.
FAMILIES: dict[str, tuple[str, int]] = {
    "alexnet": ("alexnet", 224),
    "convnext": ("convnext_tiny", 224),
    "densenet": ("densenet121", 224),
    "efficientnet": ("efficientnet_b0", 224),
    "efficientnet_v2": ("efficientnet_v2_s", 224),
    "googlenet": ("googlenet", 224),
    "inception": ("inception_v3", 299),
    "maxvit": ("maxvit_t", 224),
    "mnasnet": ("mnasnet0_5", 224),
    "mobilenet_v2": ("mobilenet_v2", 224),
    "mobilenet_v3": ("mobilenet_v3_small", 224),
    "regnet_x": ("regnet_x_400mf", 224),
    "regnet_y": ("regnet_y_400mf", 224),
    "resnet": ("resnet18", 224),
    "resnet_bottleneck": ("resnet50", 224),
    "resnext": ("resnext50_32x4d", 224),
    "shufflenet_v2": ("shufflenet_v2_x0_5", 224),
    "squeezenet": ("squeezenet1_1", 224),
    "swin": ("swin_t", 224),
    "swin_v2": ("swin_v2_t", 256),
    "vgg": ("vgg11_bn", 224),
    "vit": ("vit_b_16", 224),
}
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def build(family: str) -> tuple[str, nn.Module, Tensor]:
    """The family's network, and an example."""
    name, side = FAMILIES[family]
    torch.manual_seed(0)
    options = {"init_weights": True} if name in WITH_AUXILIARY_HEADS else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    x = torch.randn(1, 3, side, side)
    return name, as_trained(network, x), x
