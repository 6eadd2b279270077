"""Scales survive their file, come out of every file that holds them, and are refused when incomplete."""

import json
from collections import OrderedDict

import pytest
import torch

from repfold import models
from repfold.errors import RepFoldError
from repfold.models import BlockScales, Scales, load_scales, save_scales
from repfold.models.repopt import csla_blocks
from repfold.models.scale_files import from_tensors


def random_scales() -> Scales:
    generator = torch.Generator().manual_seed(3)
    draw = lambda n: torch.randn(n, generator=generator)  # noqa: E731
    return Scales(
        {
            "stem": BlockScales(draw(4), draw(4)),
            "stages.0.0": BlockScales(draw(6), draw(6)),
            "stages.0.1": BlockScales(draw(6), draw(6), draw(6)),
            "stages.1.0": BlockScales(draw(8), draw(8)),
        }
    )


def same(a: Scales, b: Scales) -> bool:
    ours, theirs = a.tensors(), b.tensors()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_file_gives_the_scales_back(tmp_path):
    save_scales(random_scales(), tmp_path / "scales.safetensors")
    assert same(load_scales(tmp_path / "scales.safetensors"), random_scales())


def test_json_is_read(tmp_path):
    values = {name: value.tolist() for name, value in random_scales().tensors().items()}
    (tmp_path / "scales.json").write_text(json.dumps({"format": "repfold-scales", "version": 1, "scales": values}))
    assert same(load_scales(tmp_path / "scales.json"), random_scales())


def public(scales: Scales) -> OrderedDict[str, torch.Tensor]:
    """As the authors publish them: any order of keys, 1x1 before conv."""
    found = OrderedDict()
    for place, block in reversed(list(scales.blocks.items())):
        stage = "stage0" if place == "stem" else f"stage{int(place.split('.')[1]) + 1}.{place.split('.')[2]}"
        found[f"{stage}.scale_1x1.weight"] = block.point_O
        found[f"{stage}.scale_conv.weight"] = block.kxk_O
        if block.identity_O is not None:
            found[f"{stage}.scale_identity.weight"] = block.identity_O
    return found


WRAPPED = {
    "scales": lambda: public(random_scales()),
    "a model": lambda: {"model": public(random_scales())},
    "a state_dict of DDP": lambda: {"state_dict": {f"module.{key}": v for key, v in public(random_scales()).items()}},
    "beside weights": lambda: {**public(random_scales()), "stage0.conv.weight": torch.ones(4, 3, 3, 3)},
    "a list of tuples": lambda: [
        (b.point_O, b.kxk_O) if b.identity_O is None else (b.identity_O, b.point_O, b.kxk_O)
        for b in random_scales().blocks.values()
    ],
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
def test_the_public_formats_are_read(tmp_path, content):
    torch.save(content(), tmp_path / "scales.pth")
    assert same(load_scales(tmp_path / "scales.pth"), random_scales())


def test_blocks_beyond_ten_are_in_their_order(tmp_path):
    tensors = {f"stage3.{i}.scale_{k}.weight": torch.full((2,), float(i)) for i in range(14) for k in ("conv", "1x1")}
    scales = from_tensors(tensors)
    assert list(scales.blocks) == [f"stages.2.{i}" for i in range(14)]
    assert [float(block.kxk_O[0]) for block in scales.blocks.values()] == list(range(14))


def test_a_model_file_and_a_run_give_the_searched_scales(tmp_path):
    network = models.create("repopt-vgg-pico-hs", num_classes=3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_()
    models.save(network, tmp_path / "best.safetensors")
    for path in (tmp_path / "best.safetensors", tmp_path):
        scales = load_scales(path)
        for name, block in csla_blocks(network).items():
            assert torch.equal(scales.blocks[name].kxk_O, block.kxk_scale_O11.detach().flatten())
    other = Scales({name: BlockScales(b.kxk_O + 1, b.point_O, b.identity_O) for name, b in scales.blocks.items()})
    save_scales(other, tmp_path / "scales.safetensors")  # the scales that a target was trained with
    assert same(load_scales(tmp_path), other)


class Hostile:
    def __reduce__(self) -> tuple:
        return print, ("code was run",)


def write(path, content) -> None:
    path.write_text(content) if isinstance(content, str) else torch.save(content, path)


BAD = {
    "no such file": ("absent.pth", None, "does not exist"),
    "code": ("scales.pth", {"model": Hostile()}, "cannot be read safely"),
    "no scales": ("scales.pth", {"conv.weight": torch.ones(2)}, "holds no scales.*repopt-vgg-...-hs"),
    "a number": ("scales.pth", 3, "holds no scales"),
    "half a block": ("scales.pth", {"stage0.scale_conv.weight": torch.ones(2)}, "block stem lacks.*point"),
    "shapes": (
        "scales.pth",
        {"stage0.scale_conv.weight": torch.ones(2), "stage0.scale_1x1.weight": torch.ones(3)},
        r"block stem have shapes \[\(2,\), \(3,\)\]",
    ),
    "a list of numbers": ("scales.pth", [1, 2], "block 0 of the list is no tuple"),
    "not JSON": ("scales.json", "{", "cannot be read as scales"),
    "other JSON": ("scales.json", '{"format": "x", "version": 1}', "not version 1 of the format repfold-scales"),
    "JSON of words": ("scales.json", '{"format": "repfold-scales", "version": 1, "scales": {"a": "b"}}', "cannot be"),
    "an unknown block": (
        "scales.json",
        '{"format": "repfold-scales", "version": 1, "scales": {"body.kxk": [1.0], "body.point": [1.0]}}',
        "a block 'body'",
    ),
    "damaged": ("scales.safetensors", "not one", "safetensors"),
}


@pytest.mark.parametrize("name, content, message", BAD.values(), ids=BAD)
def test_bad_files_are_named(tmp_path, capsys, name, content, message):
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(RepFoldError, match=message) as raised:
        load_scales(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value) and "code was run" not in capsys.readouterr().out


def test_a_directory_without_a_run_is_named(tmp_path):
    with pytest.raises(RepFoldError, match="not a run directory"):
        load_scales(tmp_path)


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(RepFoldError, match=r"end in \.safetensors"):
        save_scales(random_scales(), tmp_path / "scales.txt")
