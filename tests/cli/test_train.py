"""``repfold train`` as a person uses it: data in, a complete run out; and one clear message for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import repfold
from repfold import models, run_files
from repfold.cli import main
from repfold.counted import counted
from repfold.train import recipe_file

QUICK = ["--model", "repvgg-pico", "--preset", "32px", "--epochs", "1", "--batch", "8", "--threads", "1"]
FACTORY = """
from torch import nn

def net(num_classes=2, in_channels=3):
    return nn.Sequential(nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, num_classes))
"""


def write_images(folder: Path, count: int, seed: int, mode: str = "RGB") -> None:
    """Images that their class decides: dark ones for even seeds, bright ones for odd ones."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    low = 128 * (seed % 2)
    for number in range(count):
        pixels = draw.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes in train/ and val/, 12 and 4 images each; the working directory is the one that holds it."""
    for seed, name in enumerate(("dark", "light")):
        write_images(tmp_path / "images" / "train" / name, 12, seed)
        write_images(tmp_path / "images" / "val" / name, 4, seed + 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said on stderr by a command that has to fail as the user's mistake."""
    with pytest.raises(SystemExit) as caught:
        main(["train", *map(str, arguments)])
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert "Traceback" not in output.err + output.out
    return output.err + output.out


def test_a_folder_of_images_becomes_everything_that_a_run_is(folder, capsys):
    main(["train", str(folder), *QUICK, "--json"])
    told = json.loads(capsys.readouterr().out)
    run = Path(told["directory"])
    assert run == Path("runs/repvgg-pico-images")
    previous = {run_files.PREVIOUS_CHECKPOINT, run_files.PREVIOUS_BEST, run_files.MISTAKES}
    assert {path.name for path in run.iterdir()} - previous == set(run_files.ALWAYS)
    assert told["best"]["epoch"] == 1 and all(stage["file"] for stage in told["stages"])
    trained, plain = models.load_model(run), models.load_model(run, form="plain")
    assert trained.description.classes == plain.description.classes == ("dark", "light")
    assert trained.description.preprocessing == plain.description.preprocessing
    x = torch.randn(3, 3, 16, 16)
    assert torch.allclose(trained.network(x), plain.network(x), atol=1e-4)
    assert json.loads((run / "certificate.json").read_text())["error"] < 1e-4
    assert "<svg" in (run / "report.html").read_text()


def test_progress_is_plain_lines_when_piped_and_a_second_run_gets_a_name_of_its_own(folder, capsys):
    for name in ("repvgg-pico-images", "repvgg-pico-images-2"):
        main(["train", str(folder), *QUICK, "--no-finish"])
        output = capsys.readouterr().out
        assert re.search(r"^\s+1/1\s", output, re.MULTILINE) and "\x1b[" not in output
        assert f"Everything is in runs/{name}" in output
        assert "no decay" in output


def test_flags_go_before_the_recipe_and_the_recipe_before_the_defaults(folder, tmp_path):
    (tmp_path / "mine.toml").write_text('lr = 0.02\nbatch = 4\nmodel = "repvgg-pico"\nepochs = 1\nskip_broken = true\n')
    flags = ["--batch", "6", "--no-skip-broken", "--per-class", "10", "4", "--preset", "32px", "--no-finish"]
    main(["train", str(folder), "--recipe", "mine.toml", "--out", "run", *flags])
    recipe = recipe_file.read("run/recipe.toml")
    assert (recipe.lr, recipe.batch, recipe.weight_decay) == (0.02, 6, 1e-4)
    assert recipe.skip_broken is False and recipe.per_class == (10, 4)


def test_a_run_goes_on_with_the_recipe_in_its_directory(folder, capsys):
    main(["train", str(folder), *QUICK, "--out", "run", "--no-finish"])
    main(["train", "--resume", "--out", "run", "--no-finish"])
    assert "epoch 1 the best of 1" in capsys.readouterr().out
    assert "epochs: 1 -> 2" in refusal(capsys, "--resume", "--out", "run", "--epochs", 2)
    main(["train", "--resume", "--override", "--out", "run", "--epochs", "2", "--no-finish"])
    assert len(Path("run/record.jsonl").read_text().splitlines()) == 2
    assert "already holds a run" in refusal(capsys, folder, *QUICK, "--out", "run")
    assert "--out RUN" in refusal(capsys, "--resume")


def test_one_command_begins_a_run_and_goes_on_with_it(folder, capsys):
    once = ["train", str(folder), *QUICK, "--no-finish", "--resume", "auto"]
    for _ in range(2):
        main(once)
        assert "Everything is in runs/repvgg-pico-images\n" in capsys.readouterr().out
    main([*once, "--epochs", "2", "--override"])
    assert len(Path("runs/repvgg-pico-images/record.jsonl").read_text().splitlines()) == 2
    assert [path.name for path in Path("runs").iterdir()] == ["repvgg-pico-images"]


def test_a_torn_checkpoint_is_told_on_stderr_too(folder, capsys):
    main(["train", str(folder), *QUICK, "--out", "run", "--no-finish", "--checkpoint-every", "2"])
    checkpoint = Path("run/checkpoint.pt")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    capsys.readouterr()
    main(["train", "--resume", "--out", "run", "--no-finish"])
    told = capsys.readouterr()
    assert "goes on from the checkpoint before it" in told.err and "goes on from the checkpoint before it" in told.out


def test_a_run_whose_directory_is_deleted_ends_with_exit_code_1(folder, monkeypatch, capsys):
    from repfold.train.loop import Loop

    end_epoch = Loop._end_epoch
    monkeypatch.setattr(Loop, "_end_epoch", lambda loop, state: (shutil.rmtree("run"), end_epoch(loop, state)))
    with pytest.raises(SystemExit) as caught:
        main(["train", str(folder), *QUICK, "--out", "run", "--no-finish"])
    assert caught.value.code == 1
    assert "run was deleted while the run was training in it" in capsys.readouterr().err


def test_gray_images_and_networks_of_ones_own(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "train_factory", raising=False)
    (tmp_path / "train_factory.py").write_text(FACTORY)
    for seed, name in enumerate(("a", "b")):
        write_images(tmp_path / "gray" / name, 12, seed, mode="L")
    main(["train", "gray", *QUICK, "--model", "train_factory:net", "--preset", "imagenet", "--out", "run", "--json"])
    assert {path.name for path in Path("run").iterdir()} - {run_files.MISTAKES} == set(run_files.ALWAYS)
    description = models.read_description("run")
    assert description.preprocessing.channels == 1 and description.architecture.name == "train_factory:net"
    assert repfold.load("run", trust=True)(torch.randn(1, 1, 16, 16)).shape == (1, 2)


def test_broken_images_are_named_and_counted_or_left_out(folder, capsys):
    (folder / "train" / "dark" / "torn.png").write_bytes((folder / "train" / "dark" / "0.png").read_bytes()[:60])
    (folder / "train" / "light" / "empty.png").write_bytes(b"")
    (folder / "val" / "dark" / "text.png").write_text("no image")
    message = refusal(capsys, folder, *QUICK)
    assert "3 file(s)" in message and "--skip-broken" in message
    assert all(name in message for name in ("torn.png", "empty.png", "text.png"))
    assert not Path("runs").exists()
    main(["train", str(folder), *QUICK, "--skip-broken", "--out", "run", "--no-finish"])
    assert "3 broken files are left out" in capsys.readouterr().out
    assert len(json.loads(Path("run/environment.json").read_text())["data"]["skipped"]) == 3


def test_data_that_cannot_be_used_is_told(folder, tmp_path, capsys):
    assert "Did you mean 'digits'" in refusal(capsys, "digit", *QUICK)
    (tmp_path / "empty").mkdir()
    assert "empty" in refusal(capsys, "empty", *QUICK)
    assert "names no data" in refusal(capsys, *QUICK)
    (folder / "val" / "light").rename(folder / "val" / "lihgt")
    message = refusal(capsys, folder, *QUICK)
    assert "lihgt" in message and "light" in message
    (folder / "val" / "lihgt").rename(folder / "val" / "light")
    for image in (folder / "train" / "dark").iterdir():
        image.unlink()
    assert "dark" in refusal(capsys, folder, *QUICK)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--batch", "100"], "fewer than one batch of 100"),
        (["--model", "repvgg-b0g"], "Did you mean 'repvgg-b0'"),
        (["--model", "nowhere:net"], "no module named 'nowhere'"),
        (["--schedule", "cosign"], "Did you mean 'cosine'"),
        (["--warmup", "5"], "leaves nothing of a run"),
        (["--recipe", "warmup-liner"], "Did you mean 'warmup-linear'"),
        (["--recipe", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["--lr", "-1"], "lr is -1.0; it must be at least 0"),
        (["--epoch", "3"], "--epochs"),
        (["--precision", "bf15"], "bf16"),
        (["--init", "pickle.pt"], "pickle"),
        (["--init", "images"], "images holds no best.safetensors"),
        (["--lr", "1e30"], "lower lr"),
    ],
)
def test_wrong_settings_are_told_with_the_nearest_right_one(folder, capsys, arguments, told):
    torch.save({"weight": torch.zeros(1)}, "pickle.pt")
    assert told in refusal(capsys, folder, *QUICK, *arguments)


def test_an_unknown_key_in_a_recipe_file_is_told_with_the_nearest(folder, capsys):
    Path("mine.toml").write_text("learning_rate = 0.1\nwarm_up = 5\n")
    message = refusal(capsys, folder, "--recipe", "mine.toml")
    assert "mine.toml: Unknown recipe key" in message and "Did you mean 'lr'?" in message
    Path("mine.toml").write_text("zzz = 5\n")
    assert "Known: " in refusal(capsys, folder, "--recipe", "mine.toml")
    Path("mine.toml").write_text("warm_up = 5\n")
    assert "Did you mean 'warmup'" in refusal(capsys, folder, "--recipe", "mine.toml")


def test_a_corrupt_checkpoint_and_one_of_another_network_are_told(folder, capsys):
    main(["train", str(folder), *QUICK, "--out", "run", "--no-finish"])
    checkpoint = Path("run/checkpoint.pt")
    good = checkpoint.read_bytes()
    again = ["--resume", "--out", "run", "--override"]
    assert "another network" in refusal(capsys, *again, "--model", "repvgg-a0")
    checkpoint.write_bytes(good[: len(good) // 2])
    assert "run/checkpoint.pt cannot be read" in refusal(capsys, *again)
    assert checkpoint.read_bytes() == good[: len(good) // 2]


def test_a_network_that_does_not_fold_is_still_trained_and_reported(folder, monkeypatch, capsys):
    from repfold.errors import RepFoldError

    def refuse(network, example):
        raise RepFoldError("this one does not fold")

    monkeypatch.setattr("repfold.deploy.finish.fold", refuse)
    main(["train", str(folder), *QUICK, "--out", "run", "--json"])
    stages = {stage["name"]: stage for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert "does not fold" in stages["fold"]["result"] and stages["fold"]["file"] is None
    assert Path("run/report.html").exists() and not Path("run/model.onnx").exists()


def test_recipes_are_listed_and_printed(capsys):
    main(["recipes", "--json"])
    known = json.loads(capsys.readouterr().out)
    assert {"digits", "warmup-none", "warmup-linear", "warmup-constant"} <= set(known)
    main(["recipes", "warmup-linear"])
    printed = recipe_file.from_toml(capsys.readouterr().out)
    assert printed == recipe_file.find("warmup-linear") and printed.warmup == "5ep" and printed.epochs == 25


def test_what_is_not_given_is_picked_for_the_minutes_and_written_down(folder, capsys):
    small = ["--batch", "8", "--threads", "1", "--no-finish"]
    main(["train", str(folder), "--minutes", "0.01", *small])
    output = capsys.readouterr().out
    recipe = recipe_file.read("runs/images/recipe.toml")
    assert f"picked     {recipe.model} on images of 16 px, {counted(recipe.epochs, 'epoch')}" in output
    assert re.search(r"^takes      about .* an epoch", output, re.MULTILINE)

    main(["train", "--recipe", "runs/images", "--out", "again", "--no-finish"])
    assert "picked" not in capsys.readouterr().out and recipe_file.read("again/recipe.toml") == recipe
    main(["train", str(folder), "--resume", "auto", "--out", "again", "--minutes", "5", "--no-finish"])
    assert "picked" not in capsys.readouterr().out
    assert "leave one of the two out" in refusal(capsys, folder, "--minutes", 5, "--epochs", 3)
    assert "--minutes is 0" in refusal(capsys, folder, "--minutes", 0)
