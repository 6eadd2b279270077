"""Foreign checkpoints: names as their code has them, both directions, train and folded form, wrapped or not.

The oracle runs a foreign state_dict by its own names with plain functions, the way its authors' forward does.
"""

from __future__ import annotations

import functools
import json
import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

import repfold
from repfold import models
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.models.convert import convert
from repfold.models.key_maps import KEY_MAPS, to_ours

# code base -> names of: kxk, 1x1, identity, folded, squeeze, excite, batch norm's suffix, classifier.
FOREIGN = {
    ("RepVGG", "original"): ("rbr_dense", "rbr_1x1", "rbr_identity", "rbr_reparam", "se.down", "se.up", "linear"),
    ("RepVGG", "timm"): ("conv_kxk", "conv_1x1", "identity", "reparam_conv", "attn.fc1", "attn.fc2", "head.fc"),
    ("MobileOne", "apple"): ("rbr_conv", "rbr_scale", "rbr_skip", "reparam_conv", "se.reduce", "se.expand", "linear"),
    ("MobileOne", "timm"): ("conv_kxk", "conv_scale", "identity", "reparam_conv", "attn.fc1", "attn.fc2", "head.fc"),
}
MODEL = {"RepVGG": "repvgg-pico", "MobileOne": "mobileone-s0"}


def trained(name: str, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network = models.create(name, num_classes=num_classes)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.2)
            nn.init.normal_(layer.bias, 0, 0.1)
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.7, 1.4)
    return network.eval()


def foreign_forward(state: dict[str, torch.Tensor], x: torch.Tensor, names: tuple[str, ...]) -> torch.Tensor:
    """Run a state_dict block after block, in the order of its places."""
    kxk, point, identity, folded, squeeze, excite, classifier = names
    found = (re.match(r"stem(?=\.)|stage0(?=\.)|stages?\.?\d+\.\d+(?=\.)", key) for key in state)
    places = {match.group() for match in found if match}
    before = None
    for place in sorted(places, key=lambda place: [int(number) for number in re.findall(r"\d+", place)]):
        stage = place.rpartition(".")[0]
        stride = 2 if stage != before else 1
        before = stage
        own = {k.removeprefix(place + "."): v for k, v in state.items() if k.startswith(place + ".")}
        x = foreign_block(own, x, stride, (kxk, point, identity, folded))
        if f"{squeeze}.weight" in own:
            hidden = F.conv2d(x.mean((2, 3), keepdim=True), own[f"{squeeze}.weight"], own[f"{squeeze}.bias"]).relu()
            x = x * F.conv2d(hidden, own[f"{excite}.weight"], own[f"{excite}.bias"]).sigmoid()
        x = x.relu()
    return F.linear(x.mean((2, 3)), state[f"{classifier}.weight"], state[f"{classifier}.bias"])


def foreign_block(own, x, stride, names):
    kxk, point, identity, folded = names
    if f"{folded}.weight" in own:
        return conv(x, own[f"{folded}.weight"], stride) + own[f"{folded}.bias"].view(1, -1, 1, 1)
    terms = []
    for key, weight in own.items():
        if match := re.fullmatch(rf"({kxk}(?:\.\d+)?|{point})\.conv\.weight", key):
            terms.append(norm(conv(x, weight, stride), own, match.group(1) + ".bn"))
    if f"{identity}.weight" in own:
        terms.append(norm(x, own, identity))
    return sum(terms)


def conv(x, weight, stride):
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=x.shape[1] // weight.shape[1])


def norm(x, own, name):
    parts = [own[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")]
    mean, var, weight, bias = parts
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def error(y: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((y - wanted).abs().max() / wanted.abs().max()).item()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """By family and form, each made once: our file, an input, and what the network answers to it."""

    @functools.cache
    def made(family: str, form: str):
        network = trained(MODEL[family])
        x = torch.randn(2, 3, 96, 64)
        source = tmp_path_factory.mktemp("ours") / "ours.safetensors"
        if form == "train":
            repfold.save(network, source)
        else:
            plain, _ = repfold.fold(network, x)
            architecture = models.architecture_of(network)
            repfold.save(plain, source, description=models.Description(architecture, form="folded"))
        return source, x, network(x)

    return made


@pytest.mark.parametrize("form", ["train", "folded"])
@pytest.mark.parametrize(("family", "code_base"), FOREIGN)
def test_both_directions_keep_the_function_and_every_bit(ours, tmp_path, family, code_base, form):
    source, x, wanted = ours(family, form)
    there = convert(source, tmp_path / "theirs.pth", to=code_base)
    theirs = torch.load(tmp_path / "theirs.pth", weights_only=True)
    assert there.tensors == len(theirs) and there.form == form
    assert error(foreign_forward(theirs, x, FOREIGN[family, code_base]), wanted) < 1e-5
    torch.save({"epoch": 7, "state_dict": {f"module.{k}": v for k, v in theirs.items()}}, tmp_path / "wrapped.pth")
    back = convert(tmp_path / "wrapped.pth", tmp_path / "back.safetensors", to="repfold")
    assert (back.architecture.name, back.form, back.source) == (MODEL[family], form, code_base)
    assert error(repfold.load(tmp_path / "back.safetensors")(x), wanted) < 1e-5
    convert(tmp_path / "back.safetensors", tmp_path / "again.safetensors", to=code_base)
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == theirs.keys() and all(torch.equal(again[k], theirs[k]) for k in theirs)


def test_a0_has_the_351_names_of_its_published_checkpoint(tmp_path):
    with torch.device("meta"):
        state = models.create("repvgg-a0").state_dict()
    layout = KEY_MAPS["RepVGG"]["original"]
    names = [layout.name(key) for key in state]
    assert len(set(names)) == 351 and None not in names
    assert {"stage0.rbr_dense.conv.weight", "stage1.1.rbr_identity.running_var", "stage4.0.rbr_1x1.bn.bias"} <= set(
        names
    )
    assert {"stage3.13.rbr_identity.num_batches_tracked", "linear.weight", "linear.bias"} <= set(names)


@pytest.mark.parametrize(
    ("model", "family", "code_base", "some"),
    [
        ("repvgg-d2se", "RepVGG", "original", "stage2.3.se.down.weight"),
        ("repvgg-d2se", "RepVGG", "timm", "stages.1.3.attn.fc1.weight"),
        ("repvgg-plus-l2pse", "RepVGG-plus", "original", "stage3_second.blocks.11.post_se.up.bias"),
        ("repvgg-plus-l2pse", "RepVGG-plus", "original", "stage3_first_aux.0.bn.running_mean"),
        ("repvgg-plus-l2pse", "RepVGG-plus", "original", "stage1_aux.3.weight"),
        ("mobileone-s4", "MobileOne", "apple", "stage3.11.se.reduce.weight"),
        ("mobileone-s0", "MobileOne", "apple", "stage3.19.rbr_conv.3.bn.weight"),
        ("mobileone-s0", "MobileOne", "timm", "stages.2.19.conv_kxk.3.bn.weight"),
    ],
)
def test_names_are_those_of_the_published_code_and_map_back(model, family, code_base, some):
    with torch.device("meta"):
        state = models.create(model).state_dict()
    layout = KEY_MAPS[family][code_base]
    names = {key: layout.name(key) for key in state}
    assert some in names.values() and len(set(names.values())) == len(state)
    assert all(layout.our_name(theirs) == ours for ours, theirs in names.items())


def test_old_checkpoints_without_batch_counters_are_completed(tmp_path):
    repfold.save(trained("repvgg-pico"), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.pth", to="original")
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "old.pth")
    done = convert(tmp_path / "old.pth", tmp_path / "new.safetensors", to="repfold")
    assert done.architecture == models.Architecture("repvgg-pico", 3, "imagenet")
    assert "stem.branches.kxk.norm.num_batches_tracked" in repfold.load(tmp_path / "new.safetensors").state_dict()


def test_the_preset_is_seen_where_its_strides_leave_an_identity_branch(tmp_path):
    repfold.save(models.create("repvgg-pico", preset="32px"), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.pth", to="original")
    done = convert(tmp_path / "theirs.pth", tmp_path / "back.safetensors", to="repfold")
    assert done.architecture.preset == "32px"
    with pytest.raises(RepFoldError, match="shapes of none"):
        convert(tmp_path / "theirs.pth", tmp_path / "back.safetensors", to="repfold", preset="imagenet")


def test_a_checkpoint_of_1000_classes_brings_imagenets_preprocessing(tmp_path):
    repfold.save(trained("repvgg-pico", 1000), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors", to="timm")
    convert(tmp_path / "theirs.safetensors", tmp_path / "back.safetensors", to="repfold")
    seen = models.read_description(tmp_path / "back.safetensors").preprocessing
    assert (seen.image_size, seen.resize) == (224, 256)


def wrong_shape(state):
    state["stage2.0.rbr_1x1.conv.weight"] = torch.zeros(1, 1, 1, 1)


def unknown_name(state):
    state["stage2.0.rbr_5x5.conv.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_shape, "shapes of none of its members"),
        (unknown_name, "knows no 'stage2.0.rbr_5x5"),
        (dict.clear, "no state_dict"),
    ],
)
def test_a_checkpoint_of_no_known_network_is_refused_by_name(tmp_path, spoil, message):
    repfold.save(trained("repvgg-pico"), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.pth", to="original")
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)
    spoil(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(RepFoldError, match=message) as caught:
        convert(tmp_path / "bad.pth", tmp_path / "out.safetensors", to="repfold")
    assert "bad.pth" in str(caught.value) and not (tmp_path / "out.safetensors").exists()


def test_names_of_another_library_are_refused():
    with pytest.raises(RepFoldError, match="no known layout"):
        to_ours({"encoder.layer.0.attention.weight": torch.zeros(1)})


def test_what_other_code_has_no_names_for_is_refused(tmp_path):
    repfold.save(models.create("repvgg-pico", block="acb"), tmp_path / "acb.safetensors")
    repfold.save(models.create("repvgg-pico"), tmp_path / "pico.safetensors")
    repfold.save(nn.Linear(2, 2), tmp_path / "linear.safetensors")
    for source, to, message in (
        ("acb", "original", "has no name in original's layout"),
        ("pico", "apple", "RepVGG has no layout 'apple'"),
        ("linear", "timm", "not of a family"),
    ):
        with pytest.raises(RepFoldError, match=message):
            convert(tmp_path / f"{source}.safetensors", tmp_path / "out.pth", to=to)


def test_the_command_converts_and_reports(tmp_path, capsys):
    repfold.save(trained("repvgg-pico"), tmp_path / "ours.safetensors")
    main(["convert", str(tmp_path / "ours.safetensors"), "-o", str(tmp_path / "t.pth"), "--to", "timm", "--json"])
    assert json.loads(capsys.readouterr().out)["architecture"]["name"] == "repvgg-pico"
    main(["convert", str(tmp_path / "t.pth"), "-o", str(tmp_path / "back.safetensors")])
    assert "repvgg-pico, 3 classes, train form: timm -> repfold" in capsys.readouterr().out
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    for arguments, message in (
        ([str(tmp_path / "other.safetensors"), "-o", "x.safetensors"], "no known layout"),
        ([str(tmp_path / "t.pth"), "-o", "x.onnx"], "unknown format '.onnx'"),
        ([str(tmp_path / "gone.pth"), "-o", "x.safetensors"], "gone.pth"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["convert", *arguments])
        assert caught.value.code == 2 and message in capsys.readouterr().err
