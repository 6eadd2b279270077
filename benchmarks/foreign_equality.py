"""Whether our tables are the networks of timm and pytorchcv: their weights, converted, give their outputs.

    python benchmarks/foreign_equality.py        # with timm and pytorchcv installed, and RepFold importable

For each network: random weights and running statistics of theirs, written as a checkpoint, read by ``repfold convert``
(or loaded as they are, where the names are theirs), and the largest difference of the logits on a random image in
float64, relative to the largest logit.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from repfold import models
from repfold.models.convert import convert


def timm_network(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        return timm.create_model(name, **options)

    return make


def timm_mobilenet(variant: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from timm.models import efficientnet

        return getattr(efficientnet, f"_gen_mobilenet_{variant}")(f"mobilenet{variant}_100", **options)

    return make


def timm_repvgg(depths: tuple[int, ...], widths: tuple[float, ...], groups: int) -> Callable[[], nn.Module]:
    """RepVGG with groups in every other layer: timm builds it, though it names none of its A networks so."""

    def make() -> nn.Module:
        from timm.models.byobnet import ByobNet, _rep_vgg_bcfg
        from timm.models.byobnet import ByoModelCfg as Cfg

        blocks = _rep_vgg_bcfg(d=depths, wf=widths, groups=groups)
        return ByobNet(Cfg(blocks=blocks, stem_type="rep", stem_chs=min(64, int(64 * widths[0]))))

    return make


def pytorchcv_network(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from pytorchcv.model_provider import get_model

        return get_model(name)

    return make


A0 = ((2, 4, 14, 1), (0.75, 0.75, 0.75, 2.5))
# What it is, our name, theirs; whether theirs loads without conversion.
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], bool]] = {
    "timm mobilenetv1_100": ("mobilenetv1", timm_network("mobilenetv1_100"), False),
    "timm mobilenet v1 x0.25": (
        "mobilenetv1-x0.25",
        timm_mobilenet("v1", channel_multiplier=0.25),
        False,
    ),
    "timm mobilenetv2_100": ("mobilenetv2", timm_network("mobilenetv2_100"), False),
    "timm resnet50d": ("resnet50-vd", timm_network("resnet50d"), True),
    "timm RepVGG-A0 g2": ("repvgg-a0g2", timm_repvgg(*A0, 2), False),
    "timm RepVGG-A0 g4": ("repvgg-a0g4", timm_repvgg(*A0, 4), False),
    "pytorchcv mobilenet_w1": ("mobilenetv1", pytorchcv_network("mobilenet_w1"), False),
    "pytorchcv mobilenet_wd4": ("mobilenetv1-x0.25", pytorchcv_network("mobilenet_wd4"), False),
    "pytorchcv mobilenetv2b_w1": ("mobilenetv2", pytorchcv_network("mobilenetv2b_w1"), False),
    "pytorchcv mobilenetv2b_wd4": ("mobilenetv2-x0.25", pytorchcv_network("mobilenetv2b_wd4"), False),
}


def difference(ours: str, theirs: nn.Module, *, same_names: bool) -> float:
    """The largest difference of the logits, relative to the largest."""
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.4)
            nn.init.uniform_(layer.weight, 0.5, 1.2)
    state = theirs.state_dict()
    if not same_names:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / "theirs.pth")
            converted = convert(Path(folder) / "theirs.pth", Path(folder) / "ours.safetensors", to="repfold")
            assert converted.architecture.name == ours, converted
            network = models.load(Path(folder) / "ours.safetensors").double()
    else:
        network = models.create(ours).eval().double()
        network.load_state_dict(state)
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        expected = theirs.eval().double()(x)
        return ((network(x) - expected).abs().max() / expected.abs().max()).item()


def main() -> None:
    """Print a line for each network."""
    for name, (ours, make, same_names) in NETWORKS.items():
        torch.manual_seed(0)
        theirs = make()
        count = sum(parameter.numel() for parameter in theirs.parameters())
        print(f"{name}: {ours}, {count:,} parameters, {difference(ours, theirs, same_names=same_names):.1e}")


if __name__ == "__main__":
    main()
