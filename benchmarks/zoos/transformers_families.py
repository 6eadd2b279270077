"""The convolutional networks of transformers, from their configurations. pip install torch transformers (5.23)"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from zoos.trained import as_trained

# Family -> the network's class and what its configuration gets beside the defaults. Classifiers, backbones, heads.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bit": ("BitForImageClassification", {"depths": [1, 1, 1, 1]}),
    "convnext": ("ConvNextForImageClassification", {"depths": [1, 1, 2, 1]}),
    "convnextv2": ("ConvNextV2ForImageClassification", {"depths": [1, 1, 2, 1]}),
    "cvt": ("CvtForImageClassification", {"depth": [1, 2, 3]}),
    "dinov3_convnext": ("DINOv3ConvNextModel", {"depths": [1, 1, 2, 1]}),
    "efficientnet": (
        "EfficientNetForImageClassification",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
    ),
    "focalnet": ("FocalNetForImageClassification", {"depths": [1, 1, 2, 1]}),
    "hgnet_v2": ("HGNetV2ForImageClassification", {}),
    "levit": ("LevitForImageClassification", {}),
    "levit_teacher": ("LevitForImageClassificationWithTeacher", {}),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", {}),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {}),
    "mobilenet_v2_deeplab": ("MobileNetV2ForSemanticSegmentation", {}),
    "mobilevit": ("MobileViTForImageClassification", {}),
    "mobilevit_deeplab": ("MobileViTForSemanticSegmentation", {}),
    "mobilevitv2": ("MobileViTV2ForImageClassification", {}),
    "mobilevitv2_deeplab": ("MobileViTV2ForSemanticSegmentation", {}),
    "poolformer": ("PoolFormerForImageClassification", {"depths": [2, 2, 2, 2]}),
    "pp_lcnet": ("PPLCNetForImageClassification", {}),
    "pp_lcnet_v3": ("PPLCNetV3Backbone", {}),
    "pp_lcnet_v4": ("PPLCNetV4Backbone", {}),
    "pvt_v2": ("PvtV2ForImageClassification", {}),
    "regnet": ("RegNetForImageClassification", {"hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 2, 1]}),
    "resnet": ("ResNetForImageClassification", {}),
    "resnet_backbone": ("ResNetBackbone", {"out_features": ["stage2", "stage4"]}),
    "rt_detr_resnet": ("RTDetrResNetBackbone", {}),
    "segformer": ("SegformerForImageClassification", {}),
    "segformer_head": ("SegformerForSemanticSegmentation", {}),
    "superpoint": ("SuperPointForKeypointDetection", {}),
    "swiftformer": ("SwiftFormerForImageClassification", {}),
    "textnet": ("TextNetForImageClassification", {}),
    "textnet_backbone": ("TextNetBackbone", {}),
    "detr": ("DetrForObjectDetection", {"encoder_layers": 1, "decoder_layers": 1, "use_timm_backbone": False}),
    "glpn": ("GLPNForDepthEstimation", {}),
    "rt_detr": ("RTDetrForObjectDetection", {}),
    "d_fine": ("DFineForObjectDetection", {}),
    "upernet": ("UperNetForSemanticSegmentation", {}),
    "vitpose": ("VitPoseForPoseEstimation", {}),
    "pp_ocrv5_mobile_det": ("PPOCRV5MobileDetForObjectDetection", {}),
    "pp_ocrv5_mobile_rec": ("PPOCRV5MobileRecForTextRecognition", {}),
}
IMAGE_SIZES = {
    "vitpose": (256, 192),
    "pp_ocrv5_mobile_rec": (96, 320),
    "efficientnet": 224,
    "detr": 256,
    "rt_detr": 320,
    "d_fine": 320,
    "upernet": 256,
    "textnet": 224,
    "textnet_backbone": 224,
}


def build(family: str) -> tuple[str, nn.Module, Tensor]:
    """The family's network from its configuration, and an example. Its output stays the ModelOutput that it is."""
    name, options = FAMILIES[family]
    network_class = getattr(transformers, name)
    torch.manual_seed(0)
    network = network_class(network_class.config_class(**options)).eval()
    size = IMAGE_SIZES.get(family) or getattr(network.config, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    x = torch.randn(1, getattr(network.config, "num_channels", 3), height, width)
    return name, as_trained(network, x), x
