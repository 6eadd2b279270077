"""Every failure gets one answer: the remedy for what can be mended, all that a report needs for a fault."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from repfold.cli import main
from repfold.errors import RepFoldError

QUICK = "--model repvgg-pico --preset 32px --epochs 1 --batch 4 --threads 1 --image-size 16 --no-finish".split()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What is said on stderr by a command that has to be refused in one message."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    assert caught.value.code == 2 and "Traceback" not in output.err + output.out
    assert output.err.startswith("repfold: ") and output.err.count("\n") == 1, output.err
    return output.err


def write_images(folder: Path, count: int = 6) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((16, 16, 3), 9 * number, dtype=np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two classes; the working directory is the one that holds it."""
    for name in ("a", "b"):
        write_images(tmp_path / "images" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


def failing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> None:
        raise error

    monkeypatch.setattr("repfold.cli.recipes.recipes", command)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RepFoldError("a mistake"), "a mistake"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: Permission denied. See to its permissions"),
        (OSError(errno.ENOSPC, "No space left on device"), "The system says: No space left on device. Make room"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), "ulimit -n"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "Address already in use. Check"),
        (FileExistsError(errno.EEXIST, "File exists", "a", None, "b"), "a -> b: File exists"),
        (MemoryError(), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "not enough memory"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (ImportError("libx.so: cannot open shared object file: Too many open files"), "ulimit -n"),
        (RecursionError("maximum recursion depth exceeded"), "nested more deeply"),
        (UnicodeEncodeError("utf-8", "runs/a\udcff", 6, 7, "surrogates not allowed"), "runs/a\\udcff"),
    ],
)
def test_what_can_be_mended_is_one_line_with_the_remedy(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error, monkeypatch)
    assert told in refusal(capsys, "recipes")


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shape mismatch"), OSError("no number"), TypeError("t")])
def test_a_fault_of_ours_is_called_one(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error, monkeypatch)
    with pytest.raises(SystemExit) as caught:
        main(["recipes"])
    told = capsys.readouterr().err
    assert caught.value.code == 1 and "Traceback" in told
    last = told.splitlines()[-1]
    assert (
        "is a fault of RepFold, not yours" in last and f"torch {torch.__version__}"[:8] in last and "Python 3" in last
    )


def test_a_seed_beyond_64_bits_and_other_huge_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--seed", "--epochs", "--batch", "--train-sample"):
        assert f"{flag[2:].replace('-', '_')} is a number of more than 64 bits" in refusal(
            capsys, "train", "digits", flag, "9" * 400
        )
    assert "more than 64 bits" in refusal(capsys, "train", "digits", "--seed", 2**63)


def test_text_where_a_number_of_a_choice_belongs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text('channels = "three"\n')
    assert "channels is 'three'" in refusal(capsys, "train", "digits", "--recipe", tmp_path / "a.toml")


@pytest.mark.parametrize("name", ["num_classes", "in_channels", "preset", "name"])
def test_options_that_are_told_elsewhere_are_no_model_options(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert f"'{name}' is no option" in refusal(capsys, "train", "digits", "--model-options", f"{name}=3")


def test_sizes_that_no_memory_holds_are_refused(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "at most 8192" in refusal(capsys, "train", images, *QUICK, "--image-size", 10**8)
    assert "8192 px" in refusal(capsys, "augment", images, "--image-size", 10**8)
    for size in (10**8, 10**30):
        assert "needs more memory" in refusal(capsys, "profile", "repvgg-a0", "--example", f"1,3,{size},{size}")
        assert "needs more memory" in refusal(capsys, "profile", "repvgg-a0", "--image-size", size)


def test_a_run_is_not_written_into_the_classes_of_its_data(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "lies in the data" in refusal(capsys, "train", images, *QUICK, "--out", images / "run")
    monkeypatch.chdir(images)
    assert "lies in the data" in refusal(capsys, "train", ".", *QUICK)
    assert sorted(path.name for path in images.iterdir()) == ["a", "b"]
    for part in ("train", "val"):
        for name in ("a", "b"):
            write_images(images.parent / "split" / part / name)
    assert "lies in the data" in refusal(capsys, "train", "../split", *QUICK, "--out", "../split/train/run")
    main(["train", "../split", *QUICK, "--out", "../split/run"])  # beside the parts it is no class


def test_a_directory_is_no_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "plain.safetensors"
    words = ("fold", "repvgg-pico", "--example", "1,3,32,32", "-o", output, "--certificate", tmp_path)
    assert "is a directory" in refusal(capsys, *words)
    assert not output.exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that may not be written")
def test_a_place_that_may_not_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/proc" in refusal(
        capsys, "fold", "repvgg-pico", "--example", "1,3,32,32", "-o", "/proc/a/plain.safetensors"
    )


def test_a_device_is_not_replaced_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    words = ("fold", "repvgg-pico", "--example", "1,3,32,32", "-o", tmp_path / "plain.safetensors")
    assert "fifo" in refusal(capsys, *words, "--certificate", tmp_path / "fifo")
    assert (tmp_path / "fifo").is_fifo()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no names that are no text")
def test_names_that_are_no_text(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"na\xffme")
    (images / "a" / "0.png").rename(images / "a" / f"{odd}.png")
    main(["augment", str(images), "--preview", f"{odd}.png", "--json"])
    assert json.loads(capsys.readouterr().out)["preview"] == f"{odd}.png"
    (images / "b").rename(images / odd)
    assert "no UTF-8 text: 'na\\udcffme'" in refusal(capsys, "train", images, *QUICK)
    assert "no UTF-8 text" in refusal(capsys, "train", images.parent / odd, *QUICK)


@pytest.mark.skipif(sys.platform != "linux", reason="needs ulimit")
def test_too_few_open_files_are_told() -> None:
    command = f"ulimit -n 8; exec {sys.executable} -m repfold recipes"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 or (done.returncode == 2 and "ulimit" in done.stderr), done.stderr[-2000:]


@pytest.mark.parametrize("value", [7, "x", None, [1], {}])
@pytest.mark.parametrize("key", ["regions", "left", "error"])
def test_a_certificate_of_the_wrong_kind_is_no_end_of_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.jsonl").write_text(json.dumps({"epoch": 1, "val_top1": 50.0}) + "\n")
    (run / "certificate.json").write_text(json.dumps({"error": 1e-7, "regions": [], "left": [], key: value}))
    main(["report", str(run)])
    assert (run / "report.html").exists()


@pytest.mark.parametrize("words", [("--epochs", "nan"), ("--epochs", "inf"), ("--steps-per-epoch", "9" * 400)])
def test_a_schedule_of_no_length_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, str]) -> None:
    assert words[0] in refusal(capsys, "schedule", "cosine", *words)


def test_rounds_that_never_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("bench", "repvgg-pico", "--example", "1,3,16,16", "--no-onnx", "--rounds", "9" * 400)
    assert "1,000,000" in refusal(capsys, *words)
