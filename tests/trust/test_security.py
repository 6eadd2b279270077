"""Nothing that comes from elsewhere runs code, steers the terminal, is waited for without end or fills the memory.

docs/threat-model.md says which line each of these tests holds.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import repfold
from repfold import models
from repfold.cli import COMMANDS, main
from repfold.cli.terminal import clean

SOURCES = Path(repfold.__file__).parent
SEEN = models.Preprocessing(8, 8, (0.5,) * 3, (0.25,) * 3)
EVIL = """
from pathlib import Path
Path("imported").touch()

def net(num_classes=2, command=""):
    Path("called").write_text(command)
    from torch import nn
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said by a command that has to refuse."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert caught.value.code == 2 and "Traceback" not in output.err
    return output.err


def write_images(folder: Path, *classes: str) -> None:
    for value, name in enumerate(classes):
        for part, count in (("train", 8), ("val", 2)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((8, 8, 3), 100 * value + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")


def network() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A run directory from elsewhere, in whose recipe and model file code is named; that code lies at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    (tmp_path / "evil.py").write_text(EVIL)
    write_images(tmp_path / "data", "a", "b")
    options = {"command": "rm -r ~"}
    description = models.Description(
        models.Architecture("evil:net", 2, options=options), classes=("a", "b"), preprocessing=SEEN
    )
    (tmp_path / "run").mkdir()
    repfold.save(network(), tmp_path / "run" / "best.safetensors", description=description)
    (tmp_path / "run" / "recipe.toml").write_text(
        'model = "evil:net"\nmodel_options = "command=rm"\ndata = "data"\nbatch = 4\nepochs = 1\nimage_size = 8\n'
        'device = "cpu"\nprecision = "fp32"\nthreads = 1\n'
    )
    return tmp_path / "run"


OPENS = {
    "profile": ["profile", "run"],
    "profile a file": ["profile", "run/best.safetensors"],
    "evaluate": ["evaluate", "run"],
    "fold": ["fold", "run"],
    "predict": ["predict", "run", "data/val/a/0.png"],
    "bench": ["bench", "run"],
    "export": ["export", "run"],
    "deploy": ["deploy", "run", "-o", "served"],
    "train again": ["train", "--recipe", "run", "--out", "new"],
    "train by its file": ["train", "--recipe", "run/recipe.toml", "--out", "new"],
    "train on": ["train", "--resume", "--out", "run"],
    "find-lr": ["find-lr", "--recipe", "run"],
    "taught by it": ["train", "data", "--model", "repvgg-pico", "--preset", "32px", "--teacher", "run", "--out", "new"],
}


@pytest.mark.parametrize("command", OPENS)
def test_a_foreign_run_runs_no_code(foreign, capsys, command):
    message = said(capsys, *OPENS[command])
    assert "evil:net" in message and "--trust" in message
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    "arguments",
    [["convert", "run/best.safetensors", "-o", "x.safetensors"], ["engine", "info", "run/best.safetensors"]],
)
def test_what_builds_no_network_imports_nothing_either(foreign, capsys, arguments):
    said(capsys, *arguments)
    assert not Path("imported").exists()


def test_starting_from_its_weights_imports_nothing(foreign, tmp_path):
    models.initialise(network(), foreign)
    assert not Path("imported").exists()


def test_a_factory_of_the_users_choice_is_not_called_with_the_files_options(foreign, capsys):
    message = said(capsys, "profile", "run", "--factory", "evil:net")
    assert "command='rm -r ~'" in message and not Path("called").exists()
    message = said(capsys, "train", "--recipe", "run", "--model", "evil:net", "--out", "new")
    assert "--model-options 'command=rm'" in message and not Path("imported").exists()


def test_trust_runs_what_one_trained_oneself(foreign, capsys):
    main(["evaluate", "run", "--trust", "--json"])
    assert json.loads(capsys.readouterr().out)["images"] == 4
    assert Path("called").read_text() == "rm -r ~"


def test_a_run_of_ones_own_code_goes_on_and_is_opened_with_trust(foreign, capsys):
    own = ["--model", "evil:net", "--model-options", "command=mine", "--image-size", "8", "--threads", "1"]
    quick = ["--epochs", "1", "--batch", "4", "--precision", "fp32"]
    main(["train", "data", *own, *quick, "--out", "mine", "--no-finish"])
    assert "--trust" in said(capsys, "fold", "mine")
    main(["fold", "mine", "--trust"])
    main(["predict", "mine", "data/val/a/0.png"])  # the folded network is a graph, which needs no code
    assert "--trust" in said(capsys, "train", "--resume", "--out", "mine")
    main(["train", "--resume", "--out", "mine", "--trust", "--no-finish"])
    main(["train", "--resume", "--out", "mine", *own, "--no-finish"])  # or the code named again


def test_finishing_believes_no_file_that_names_other_code_than_the_recipe(foreign, capsys):
    """A foreign run whose recipe is harmless, and finished, so that only its model file is opened."""
    quick = ["--model", "repvgg-pico", "--preset", "32px", "--epochs", "1", "--batch", "4", "--threads", "1"]
    main(["train", "data", *quick, "--out", "done", "--no-finish"])
    (foreign / "best.safetensors").replace("done/best.safetensors")
    assert "evil:net" in said(capsys, "train", "--resume", "--out", "done")
    assert not Path("imported").exists()


def test_every_command_that_opens_a_model_takes_trust():
    opening = {name for name in COMMANDS if "flags.open(" in (text := _source(name)) or "flags.load(" in text}
    assert opening >= {"profile", "evaluate", "fold", "predict", "bench", "export", "deploy"}
    for name in COMMANDS:  # all by the flags, of which trust is one
        assert "open_model(" not in _source(name) and "load_model(" not in _source(name), name


def _source(command: str) -> str:
    return (SOURCES / "cli" / f"{command.replace('-', '_')}.py").read_text()


# --- the terminal

CURSES = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202e"


def test_control_characters_are_spelt_out():
    assert clean(CURSES) == r"\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202e"
    assert clean("caf\udce9 Käfer 猫\t\n") == "caf\\udce9 Käfer 猫\t\n"
    assert clean(clean(CURSES)) == clean(CURSES)


def test_names_of_classes_files_and_paths_reach_the_terminal_without_control_characters(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = (CURSES, "[bold]no markup[/nor this]")
    repfold.save(network(), "m.safetensors", description=models.Description(classes=names, preprocessing=SEEN))
    image = f"a{CURSES}[b].png"
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(image)
    main(["predict", "m.safetensors", image])
    told = capsys.readouterr().out
    assert r"\x1b]0;owned\x07" in told and "[bold]no markup[/nor this]" in told
    write_images(tmp_path / "data", "a", "b")
    told += said(capsys, "evaluate", "m.safetensors", "data") + said(capsys, "predict", "m.safetensors", f"no{CURSES}")
    told += said(capsys, "fold", f"no{CURSES}")
    assert not {character for character in told if ord(character) < 32 or 127 <= ord(character) < 160} - {"\n"}
    assert "\u202e" not in told


def test_commands_print_through_the_one_function_that_cleans():
    """But JSON, whose writer escapes all that is not ASCII; and rich by the console that cleans."""
    for path in (SOURCES / "cli").glob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        printed = [ast.unparse(call) for call in calls if call.func.id == "print"]
        assert path.name == "terminal.py" or [text for text in printed if not text.startswith("print(dumps(")] == []
        assert path.name == "console.py" or "rich.console" not in path.read_text()


# --- images


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repfold.save(network(), "m.safetensors", description=models.Description(preprocessing=SEEN))
    return "m.safetensors"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_the_usual_formats_are_opened(model, kind, capsys):
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save("image", kind)
    main(["predict", model, "image"])


@pytest.mark.parametrize("kind", ["EPS", "ICO", "SGI", "TGA", "PCX", "PDF", "IM", "DIB"])
def test_no_other_format_is_whatever_the_file_is_called(model, kind, capsys, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **named: pytest.fail("a program is started"))
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save("image.jpg", kind)
    assert "not an image of JPEG, PNG" in said(capsys, "predict", model, "image.jpg")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("pipe.png", "it is a pipe"),
        ("/dev/zero", "it is a device"),
        ("/proc/self/maps", "empty file"),
    ],
)
def test_pipes_devices_and_proc_are_no_images(model, path, told, capsys):
    os.mkfifo("pipe.png")  # nobody ever writes to it: opening it as usual would wait for ever
    assert told in said(capsys, "predict", model, path)


def test_a_pipe_among_the_images_of_a_class_is_a_broken_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "data", "a", "b")
    os.mkfifo("data/train/a/x.png")
    assert "x.png: it is a pipe" in said(capsys, "train", "data", "--out", "run")


def test_images_have_no_more_pixels_than_allowed(model, capsys, monkeypatch):
    Image.new("1", (20_000, 10_000)).save("large.png")  # 200 million pixels in 25 kB
    assert "more than 178,956,970 pixels" in said(capsys, "predict", model, "large.png")
    Image.fromarray(np.zeros((8, 9, 3), dtype=np.uint8)).save("small.png")
    assert "more than 71 pixels" in said(capsys, "predict", model, "small.png", "--max-pixels", 71)
    main(["predict", model, "small.png", "--max-pixels", "72"])
    write_images(Path("data"), "a", "b")
    for command in (["train"], ["find-lr"], ["augment"]):
        assert "more than 63 pixels" in said(capsys, *command, "data", "--max-pixels", 63)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 20)  # what Pillow allows by itself, twice over, is 40
    main(["predict", model, "small.png", "--max-pixels", "72"])


# --- nonsense


def test_one_class_and_a_class_that_begins_with_a_dot_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "one", "a")
    assert "one class only ('a')" in said(capsys, "train", "one", "--out", "run")
    write_images(tmp_path / "data", "a", "b", ".c")
    quick = ["--model", "repvgg-pico", "--preset", "32px", "--epochs", "1", "--batch", "4", "--threads", "1"]
    main(["train", "data", *quick, "--no-finish", "--out", "run"])
    assert "data/train/.c is passed over, since its name begins with a dot" in capsys.readouterr().out


def test_fewer_names_than_outputs_and_outputs_that_are_no_numbers_are_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save("image.png")
    repfold.save(network(), "m.safetensors", description=models.Description(classes=("a",), preprocessing=SEEN))
    assert "names 1 classes, but its network has 2" in said(capsys, "predict", "m.safetensors", "image.png")
    infinite = network()
    with torch.no_grad():
        infinite[2].bias.fill_(float("inf"))
    repfold.save(infinite, "m.safetensors", description=models.Description(classes=("a", "b"), preprocessing=SEEN))
    assert "not finite numbers" in said(capsys, "predict", "m.safetensors", "image.png")
    write_images(tmp_path / "data", "a", "b")
    assert "not finite numbers" in said(capsys, "evaluate", "m.safetensors", "data", "--json")


def test_weights_that_are_no_numbers_or_no_safetensors_are_told(tmp_path, capsys, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    state = models.create("repvgg-pico", num_classes=2).state_dict()
    Path("p.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))
    assert "p.safetensors" in said(capsys, "profile", "repvgg-pico", "--weights", "p.safetensors")
    torch.save({**state, "head.bias": torch.full((2,), float("nan"))}, "nan.pt")
    message = said(capsys, "profile", "repvgg-pico", "--num-classes", 2, "--weights", "nan.pt")
    assert "not numbers (NaN), 'head.bias'" in message


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seed", 2**70], "seed is"),
        (["--model-options", "num_classes=3"], "the data say how many classes"),
        (["--image-size", 10**8], "at most 8192"),
        (["--recipe", "deep.toml"], "nested too deeply"),
        (["--recipe", "dots.toml"], "more than 64 dots"),
        (["--recipe", "long.toml"], "65,536"),
        (["--recipe", "huge.toml"], "bits: TOML's have 64"),
        (["--recipe", "pipe.toml"], "it is a pipe"),
        (["--recipe", "/dev/zero"], "it is a device"),
    ],
)
def test_settings_beyond_all_bounds_are_told_at_once(tmp_path, capsys, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    Path("deep.toml").write_text("lr = " + "[" * 10_000 + "]" * 10_000)
    Path("dots.toml").write_text("a." * 10_000 + "a = 1")
    Path("long.toml").write_text("#" * 100_000)
    Path("huge.toml").write_text("seed = 0x" + "f" * 10_000)
    os.mkfifo("pipe.toml")
    assert told in said(capsys, "train", "digits", *arguments, "--out", "run")


def test_a_pipe_is_no_model_and_no_seed_is_beyond_64_bits(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pipe.safetensors", "pipe.onnx"):
        os.mkfifo(name)
        for command in (["profile"], ["fold"], ["engine", "info"], ["predict", "--model"]):
            assert "pipe" in said(capsys, *command, name, *(["x.png"] if "predict" in command else []))
    assert "--seed" in said(capsys, "augment", "digits", "--seed", 2**70)


def test_names_that_are_no_text_are_told_where_they_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_images(folder, "a", "b")
    quick = ["--model", "repvgg-pico", "--preset", "32px", "--epochs", "1", "--batch", "4", "--threads", "1"]
    assert "no UTF-8 text" in said(capsys, "train", folder, *quick, "--out", "run")
    assert "bytes that are no text" in said(capsys, "train", "digits", *quick, "--out", folder)
