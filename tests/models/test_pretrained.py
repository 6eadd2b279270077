"""Weights from a hub, an address or a file: the ones that were meant, in the layouts of other code, or a clear word."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.hub_server import COMMIT, hub

import repfold
from repfold import models
from repfold.errors import RepFoldError
from repfold.models.key_maps import from_ours
from repfold.models.pretrained import is_remote, locate, preprocessing_of, read

REPOSITORY = "timm/repvgg_tiny.test_in1k"
CONFIG = {
    "architecture": "repvgg_pico",
    "num_classes": 9,
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "crop_pct": 0.8,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.3, 0.2, 0.1],
        "license": "mit",
    },
}
CARD = """---
tags:
- timm
license: other
license_name: mobileone-license
license_link: https://example.org/L
---
# Card
license: none
"""
NOT_USEFUL = ["[]", '{"pretrained_cfg": 3}', '{"pretrained_cfg": {"input_size": [3, 0, 0]}}', "{}"]


def source() -> torch.nn.Module:
    torch.manual_seed(3)
    return models.create("repvgg-pico", num_classes=9)


def timms(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return from_ours(network.state_dict(), "RepVGG", "timm")


def use_server(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does, which huggingface_hub reads when it is imported."""
    constants = pytest.importorskip("huggingface_hub.constants")
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of repositories with one of timm's kind in it, served; and caches that are empty."""
    constants = pytest.importorskip("huggingface_hub.constants")
    folder = tmp_path / "hub" / REPOSITORY
    folder.mkdir(parents=True)
    save_file(timms(source()), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "README.md").write_text(CARD)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    with hub(tmp_path / "hub") as (address, requests):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield folder, address, requests


def same(network: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_repository_gives_weights_their_network_preprocessing_and_licence(place):
    found = read(locate(REPOSITORY))
    assert found.description.architecture == models.Architecture("repvgg-pico", 9)
    assert found.description.preprocessing == models.Preprocessing(64, 80, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    assert found.located.licence == "mobileone-license (https://example.org/L)" and found.located.commit == COMMIT
    network = models.create("repvgg-pico", num_classes=9)
    done = models.initialise(network, found)
    assert done.skipped == () and same(network, source())
    told = str(models.initialise(models.create("repvgg-pico", num_classes=2), found))
    assert REPOSITORY in told and "renamed from the layout of timm" in told and "mobileone-license" in told
    assert "head.bias [2] for [9], head.weight [2, 128] for [9, 128]" in told


def test_what_was_fetched_is_kept_and_serves_without_the_server(place, monkeypatch):
    _, _, requests = place
    locate(f"hf-hub:{REPOSITORY}")
    fetched = [request for request in requests if request.startswith("GET /cdn")]
    assert len(fetched) == 1
    locate(REPOSITORY)
    assert [request for request in requests if request.startswith("GET /cdn")] == fetched
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    assert read(locate(REPOSITORY)).description.preprocessing is not None


def test_a_pickle_will_do_where_there_is_no_safetensors_and_is_never_run(place):
    folder, _, _ = place
    (folder / "model.safetensors").unlink()
    torch.save(timms(source()), folder / "pytorch_model.bin")
    network = models.create("repvgg-pico", num_classes=9)
    models.initialise(network, REPOSITORY)
    assert same(network, source())


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("run"),))


@pytest.mark.parametrize("way", ["hub", "address", "file"])
def test_a_pickle_with_code_is_refused_whatever_way_it_comes(place, way, tmp_path):
    folder, address, _ = place
    other = folder.parent / "evil"
    other.mkdir()
    (other / "pytorch_model.bin").write_bytes(pickle.dumps({"state_dict": Evil()}))
    given = {
        "hub": "timm/evil",
        "address": f"{address}/cdn/timm/evil/resolve/main/pytorch_model.bin",
        "file": (other / "pytorch_model.bin").as_uri(),
    }
    with pytest.raises(RepFoldError, match=r"holds more than tensors|not a file of torch\.save"):
        models.initialise(models.create("repvgg-pico", num_classes=9), given[way])
    assert not (tmp_path / "run").exists()


def test_an_address_is_fetched_once_and_checked_against_the_hash_in_its_name(place):
    folder, address, requests = place
    content = (folder / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for name in (f"good-{digest[:8]}.pth", "bad-00000000.pth"):
        (folder / name).write_bytes(content)
    base = f"{address}/cdn/{REPOSITORY}/resolve/main"
    for _ in range(2):
        network = models.create("repvgg-pico", num_classes=9)
        models.initialise(network, f"{base}/good-{digest[:8]}.pth")
        assert same(network, source())
    assert len([request for request in requests if "good" in request]) == 1
    with pytest.raises(RepFoldError, match="is not what its name says"):
        locate(f"{base}/bad-00000000.pth")
    with pytest.raises(RepFoldError, match="cannot be fetched: HTTP Error 404"):
        locate(f"{base}/none.pth")
    with pytest.raises(RepFoldError, match="cannot be fetched"):
        locate("http://127.0.0.1:9/none.pth")
    kept = [path.name for path in Path("torch").rglob("*.pth*")]
    assert any("good" in name for name in kept) and not any("none" in name or "bad" in name for name in kept)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("timm/none", "timm/none cannot be fetched.*Check its name"),
        ("runs/old", "where it is a path, that there is something at it"),
        ("hf-hub:nonsense", "is no repository: write owner/name"),
        ("hub/old", "There is no file or run hub/old"),
        ("timm/empty", "holds neither model.safetensors nor pytorch_model.bin"),
    ],
)
def test_what_cannot_be_had_is_named(place, given, said):
    (place[0].parent / "empty").mkdir()
    with pytest.raises(RepFoldError, match=said):
        read(locate(given))


def test_without_the_package_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", None)
    with pytest.raises(RepFoldError, match=r"pip install 'repfold\[hub\]'"):
        locate("timm/repvgg_a0.rvgg_in1k")


def test_a_network_that_repfold_lacks_is_named_by_its_config(place):
    folder, _, _ = place
    save_file({"blocks.0.weight": torch.zeros(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_tiny"}))
    with pytest.raises(RepFoldError, match="holds a network called vit_tiny, but the network to start is repvgg-pico"):
        models.initialise(models.create("repvgg-pico"), REPOSITORY)


@pytest.mark.parametrize(
    "content", ["[]", '{"pretrained_cfg": 3}', '{"pretrained_cfg": {"input_size": [3, 0, 0]}}', "{}"]
)
def test_a_config_that_says_nothing_of_use_is_passed_over(content):
    told = json.loads(content)
    assert preprocessing_of(told if isinstance(told, dict) else {}) is None


def test_residual_networks_come_in_torchvisions_names(tmp_path):
    """Which are ours: with and without the counters that old files lack."""
    torch.manual_seed(0)
    network = models.create("resnet18", num_classes=6)
    state = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "r.pth")
    found = read(locate(tmp_path / "r.pth"))
    assert found.description.architecture == models.Architecture("resnet18", 6) and found.code_base == ""
    other = models.create("resnet18", num_classes=6)
    models.initialise(other, found)
    assert same(other, network)


def test_a_classifier_of_other_classes_or_none_stays_fresh(tmp_path):
    path = tmp_path / "a.safetensors"
    architecture = models.Architecture("repvgg-pico", 9)
    repfold.save(source(), path, description=models.Description(architecture, tuple("abcdefghi")))
    for classes, skipped in ((tuple("abcdefghi"), ()), (tuple("ABCDEFGHI"), ("head.bias", "head.weight"))):
        done = models.initialise(models.create("repvgg-pico", num_classes=9), path, classes=classes)
        assert done.skipped == skipped and ("other classes" in str(done)) == bool(skipped)
    headless = {key: value for key, value in load_file(path).items() if not key.startswith("head.")}
    save_file(headless, tmp_path / "b.safetensors")
    done = models.initialise(models.create("repvgg-pico", num_classes=9), tmp_path / "b.safetensors")
    assert done.skipped == ("head.bias", "head.weight") and "no classifier" in str(done)
    del headless["stem.branches.kxk.conv.weight"]
    save_file(headless, tmp_path / "c.safetensors")
    with pytest.raises(RepFoldError, match="is missing"):
        models.initialise(models.create("repvgg-pico", num_classes=9), tmp_path / "c.safetensors")


def test_what_a_server_would_be_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    remote = ("timm/repvgg_a0.rvgg_in1k", "hf-hub:a/b", "http://x/y.pth", "https://x/y.pth")
    local = ("runs/demo", "a.pth", "somewhere/a.safetensors", "/a/b", "file:///a/b.pth", "run")
    assert [is_remote(text) for text in (*remote, *local)] == [True] * len(remote) + [False] * len(local)
