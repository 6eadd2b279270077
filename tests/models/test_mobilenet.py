"""MobileNets: published sizes, pytorchcv's and timm's names and outputs, folding, model files."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from repfold import models
from repfold.errors import RepFoldError
from repfold.fold import fold
from repfold.models.convert import convert, family_of
from repfold.models.key_maps import KEY_MAPS, from_ours

SMALL = ("mobilenetv1-x0.25", "mobilenetv2-x0.25")


def trained(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    network = models.create(name, num_classes=5, **options)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.4)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilenetv1", 4_231_976),
        ("mobilenetv1-x0.25", 470_072),
        ("mobilenetv2", 3_504_872),
        ("mobilenetv2-x0.25", 1_517_312),
    ],
)
def test_they_have_the_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in models.create(name).parameters()) == parameters


def pytorchcv_forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Run a state_dict by pytorchcv's names, as its forward does: every convolution with its norm, unit after unit."""
    second = any("final_block" in key for key in state)
    act = F.relu6 if second else F.relu

    def conv(place: str, x: torch.Tensor, stride: int = 1, active: bool = True) -> torch.Tensor:
        kernel = state[f"{place}.conv.weight"]
        groups = x.shape[1] // kernel.shape[1]
        y = F.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, 1, groups)
        norm = (state[f"{place}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        y = F.batch_norm(y, *norm)
        return act(y) if active else y

    x = conv("features.init_block", x, 2)
    units = {match.group(0): match for key in state if (match := re.match(r"features\.stage(\d+)\.unit(\d+)", key))}
    for place, match in sorted(units.items(), key=lambda item: (int(item[1][1]), int(item[1][2]))):
        stride = 2 if match[2] == "1" and match[1] != "1" else 1
        if not second:
            x = conv(f"{place}.pw_conv", conv(f"{place}.dw_conv", x, stride))
            continue
        y = conv(f"{place}.conv1", x) if f"{place}.conv1.conv.weight" in state else x
        y = conv(f"{place}.conv3", conv(f"{place}.conv2", y, stride), active=False)
        x = x + y if x.shape == y.shape else y
    x = conv("features.final_block", x) if second else x
    head = state["output.weight"]
    return x.mean((2, 3)) @ head.flatten(1).T + state.get("output.bias", torch.zeros(len(head)))


@pytest.mark.parametrize("name", SMALL)
def test_pytorchcv_s_checkpoints_give_its_outputs_and_go_back(tmp_path, name: str) -> None:
    ours = trained(name)
    if name.startswith("mobilenetv2"):  # pytorchcv's head is a convolution without a bias
        ours.classifier.bias.data.zero_()
    names = KEY_MAPS[family_of(name)]["pytorchcv"]
    theirs = {their: value for key, value in ours.state_dict().items() if (their := names.name(key)) is not None}
    if name.startswith("mobilenetv2"):
        theirs["output.weight"] = theirs["output.weight"][:, :, None, None]
    torch.save(theirs, tmp_path / "theirs.pth")
    converted = convert(tmp_path / "theirs.pth", tmp_path / "ours.safetensors", to="repfold")
    assert (converted.architecture.name, converted.source, converted.form) == (name, "pytorchcv", "train")
    read = models.load(tmp_path / "ours.safetensors")
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(read(x), pytorchcv_forward(theirs, x), rtol=1e-4, atol=1e-5)
    if name.startswith("mobilenetv1"):
        convert(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", to="pytorchcv")
        assert load_file(tmp_path / "back.safetensors").keys() == theirs.keys()


@pytest.mark.parametrize(
    ("name", "options"), [("mobilenetv2-x0.25", {}), ("mobilenetv1-x0.25", {"activation": "relu6"})]
)
def test_timm_s_names_are_ours_and_its_activation_is_kept(tmp_path, name: str, options: dict[str, str]) -> None:
    """The first version has ReLU6 there; a checkpoint does not show it, but whose it is does."""
    ours = trained(name, **options)
    save_file(ours.state_dict(), tmp_path / "timm.safetensors")
    converted = convert(tmp_path / "timm.safetensors", tmp_path / "ours.safetensors", to="repfold")
    assert converted.source == "timm" and converted.architecture.options == options
    x = 20 * torch.rand(1, 3, 32, 32)
    assert torch.equal(models.load(tmp_path / "ours.safetensors")(x), ours(x))


def test_the_head_s_bias_has_no_name_in_pytorchcv_s_second_version() -> None:
    """Its head is a convolution without one: refused, and not dropped in silence."""
    names = KEY_MAPS["MobileNetV2"]["pytorchcv"]
    assert names.name("blocks.4.2.conv_pwl.weight") == "features.stage4.unit7.conv3.conv.weight"
    with pytest.raises(RepFoldError, match=r"classifier\.bias.*no name"):
        from_ours(trained("mobilenetv2-x0.25").state_dict(), "MobileNetV2", "pytorchcv")


@pytest.mark.parametrize("name", SMALL)
def test_they_fold_keep_their_file_and_take_small_images(tmp_path, name: str) -> None:
    network = trained(name, preset="32px", activation="relu")
    x = torch.rand(2, 3, 32, 32)
    assert network.blocks(network.conv_stem(x)).shape[-1] == 4
    plain, _ = fold(network, x)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())
    torch.testing.assert_close(plain(x), network(x), rtol=1e-4, atol=1e-5)
    models.save(network, tmp_path / "net.safetensors")
    assert torch.equal(models.load(tmp_path / "net.safetensors")(x), network(x))
    assert models.architecture_of(network).name == name


def test_depthwise_kernels_start_as_wide_as_their_group_asks() -> None:
    """He et al.'s variance 2/fan_out, with the fan of one group: 9 for a depthwise 3x3, whatever the channels."""
    kernel = models.create("mobilenetv1").blocks[4][1].conv_dw.weight
    assert kernel.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)
