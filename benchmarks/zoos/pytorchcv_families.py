"""pytorchcv's classification families, the first network of each. pip install --no-deps pytorchcv requests"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import torch
from torch import Tensor, nn

from zoos.trained import as_trained

# Families for other tasks than classification (segmentation, pose, flow, speech, ...) take other inputs.
OTHER_TASKS = frozenset(
    """
    alphapose_coco bisenet centernet cgnet contextnet dabnet danet deeplabv3 edanet enet erfnet esnet espcnet fastscnn
    fcn8sd fpenet ibppose_coco icnet jasper jasperdr lednet lffd linknet lwopenpose_cmupan ntsnet_cub nvpattexp pfpcnet
    prnet propainter propainter_ip propainter_ip_stream propainter_rfc propainter_rfc_stream propainter_stream pspnet
    quartznet raft raft_stream segnet simplepose_coco simpleposemobile_coco sinet sqnet superpointnet unet visemenet
    voca
    """.split()
)
SMALL_IMAGES = ("_cifar", "_cifar10")
INPUT_SIZES = {
    "inceptionv3": 299,
    "inceptionv4": 299,
    "inceptionresnetv1": 299,
    "inceptionresnetv2": 299,
    "polynet": 331,
}


def _families() -> dict[str, str]:
    """The classification families: module name -> the first network that it exports."""
    models = importlib.import_module("pytorchcv.models")
    names = sorted(module.name for module in pkgutil.iter_modules(models.__path__))
    return {name: _first(name) for name in names if name not in OTHER_TASKS and name != "common"}


def _first(family: str) -> str:
    module = importlib.import_module(f"pytorchcv.models.{family}")
    for name in module.__all__:
        factory = getattr(module, name)
        if inspect.isfunction(factory) and "kwargs" in inspect.signature(factory).parameters and name[:4] != "get_":
            return str(name)
    raise LookupError(f"pytorchcv.models.{family} exports no network")


FAMILIES = _families()


def build(family: str) -> tuple[str, nn.Module, Tensor]:
    """The family's first network with a classifier, and an example."""
    name = FAMILIES[family]
    torch.manual_seed(0)
    network = getattr(importlib.import_module(f"pytorchcv.models.{family}"), name)()
    side = INPUT_SIZES.get(family, 32 if family.endswith(SMALL_IMAGES) else 224)
    size = getattr(network, "in_size", None) or (side, side)
    x = torch.randn(1, getattr(network, "in_channels", 3), *size)
    return name, as_trained(network, x), x
