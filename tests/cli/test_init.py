"""``repfold train DATA --init WEIGHTS``: no network named, nothing converted before, and said what was loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.models.hub_server import COMMIT, hub

import repfold
from repfold import models
from repfold.cli import main
from repfold.errors import RepFoldError
from repfold.models.key_maps import from_ours
from repfold.train import Recipe, model_options, recipe_file, starting

QUICK = ["--epochs", "1", "--batch", "8", "--threads", "1", "--image-size", "16", "--no-finish", "--precision", "fp32"]
CONFIG = {
    "architecture": "repvgg_pico",
    "pretrained_cfg": {"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.2] * 3},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Images of two classes, and weights of nine; the working directory is the one that holds them."""
    monkeypatch.chdir(tmp_path)
    for value, name in enumerate(("dark", "light")):
        for part, count in (("train", 8), ("val", 4)):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((16, 16, 3), 100 * value + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    torch.manual_seed(1)
    network = models.create("repvgg-pico", num_classes=9)
    repository = tmp_path / "hub" / "timm" / "repvgg_tiny"
    repository.mkdir(parents=True)
    save_file(from_ours(network.state_dict(), "RepVGG", "timm"), repository / "model.safetensors")
    (repository / "config.json").write_text(json.dumps(CONFIG))
    (repository / "README.md").write_text("---\nlicense: mit\n---\n# Card\n")
    return tmp_path


def test_a_repository_is_all_that_has_to_be_named_and_its_licence_goes_with_the_weights(place, capsys):
    with hub(place / "hub") as (address, _):
        caches = {"HF_ENDPOINT": address, "HF_HOME": str(place / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-m", "repfold", "train", "images", "--init", "timm/repvgg_tiny", "-o", "run"]
        done = subprocess.run([*command, *QUICK], env=os.environ | caches, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "renamed from the layout of timm" in done.stdout and "licence of the weights: mit" in done.stdout
    assert "head.weight [2, 128] for [9, 128]" in done.stdout and "the recipe fine-tune" in done.stderr
    recipe = recipe_file.read("run/recipe.toml")
    assert (recipe.model, recipe.preset, recipe.channels, recipe.lr) == ("repvgg-pico", "imagenet", 3, 0.0)
    assert models.read_description("run").preprocessing.mean == (0.5, 0.5, 0.5)
    recorded = json.loads(Path("run/environment.json").read_text())["init"]
    assert recorded == {
        "source": "timm/repvgg_tiny",
        "tensors": 94,
        "fresh": ["head.bias", "head.weight"],
        "layout": "timm",
        "licence": "mit",
        "commit": COMMIT,
    }
    main(["deploy", "run", "-o", "served", "--engines", "onnxruntime", "--rounds", "1", "--threads", "1"])
    assert "licence of these weights: mit" in capsys.readouterr().out
    described = json.loads(Path("served/model.json").read_text())
    assert described["started_from"] == {"source": "timm/repvgg_tiny", "licence": "mit", "commit": COMMIT}
    assert described["licence"] is None
    terms = rf"- started from: timm/repvgg\_tiny, commit {COMMIT}; licence of these weights: mit"
    card = Path("served/README.md").read_text()
    assert terms in card.splitlines() and "- licence: not stated" in card.splitlines()
    main(["train", "images", "--init", "run/best.safetensors", *QUICK, "-o", "again"])  # on the same terms
    assert "licence of the weights: mit" in capsys.readouterr().out


def test_a_run_gives_its_network_with_its_options_and_pixels_are_normalised_alike(place):
    first = ["--model", "repvgg-pico", "--preset", "32px", "--model-options", "activation=leaky-relu", "--lr", "0.01"]
    main(["train", "images", *first, *QUICK, "--normalise", "0.1/0.2/0.3,0.4/0.5/0.6", "-o", "one"])
    main(["train", "images", "--init", "one", *QUICK, "-o", "two"])
    one, two = (recipe_file.read(f"{name}/recipe.toml") for name in ("one", "two"))
    assert (one.model, one.preset, one.model_options) == (two.model, two.preset, two.model_options)
    assert models.read_description("two").preprocessing.mean == (0.1, 0.2, 0.3)
    main(["train", "images", "--init", "one", "--normalise", "data", *QUICK, "-o", "three"])
    assert models.read_description("three").preprocessing.mean != (0.1, 0.2, 0.3)


def test_what_is_given_is_not_taken_from_the_weights(place):
    weights = "hub/timm/repvgg_tiny/model.safetensors"
    base = Recipe(init=weights)
    assert starting.complete(base, {"model"}) is base
    assert starting.complete(base, {"preset", "channels"}).replace(model=base.model) == base
    found = starting.complete(base.replace(channels=1), {"channels"})
    assert (found.model, found.preset, found.channels) == ("repvgg-pico", "imagenet", 1)
    with pytest.raises(RepFoldError, match="of no network that RepFold has in the preset 32px"):
        starting.complete(base.replace(preset="32px"), {"preset"})


def test_folded_weights_of_other_code_start_the_plain_network(place):
    network = models.create("repvgg-pico", num_classes=2, block="plain", norm=False)
    save_file(from_ours(network.state_dict(), "RepVGG", "original"), "plain.safetensors")
    recipe = starting.complete(Recipe(init="plain.safetensors"), ())
    assert recipe.model_options == "block=plain,norm=false"
    other = models.create("repvgg-pico", num_classes=2, **model_options.read(recipe.model_options))
    models.initialise(other, "plain.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(other.eval()(x), network.eval()(x))


def test_options_are_written_as_they_are_read():
    text = "block=dbb,iterations=2/2/2,gated=true,slope=0.1,norm=group:16"
    assert model_options.write(model_options.read(text)) == text and model_options.write({}) == ""


def test_weights_that_do_not_show_their_network_ask_for_it(place):
    save_file({"a.weight": torch.zeros(2)}, "strange.safetensors")
    with pytest.raises(RepFoldError, match="Say which it is: --model NAME"):
        starting.complete(Recipe(init="strange.safetensors"), ())
    layers = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    description = models.Description(models.Architecture("mynet:net", 2))
    repfold.save(layers, "own.safetensors", description=description)
    with pytest.raises(RepFoldError, match="a file does not choose what code runs"):
        starting.complete(Recipe(init="own.safetensors"), ())
