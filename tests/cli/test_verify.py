"""``repfold verify``: a whole run passes, and every kind of damage is found; nothing is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from repfold import run_files
from repfold.cli import main
from repfold.train import checkpoint
from repfold.train.run_lock import held

FLAGS = (
    "digits --per-class 20 5 --model repvgg-pico --preset 32px --epochs 2 --batch 32 --lr 0.05 --precision fp32 "
    "--threads 1 --device cpu --no-finish --average ema:decay=0.9 --mixup 0.2"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("verify") / "run"
    main(["train", *FLAGS.split(), "--out", str(run)])
    main(["fold", str(run)])
    return run


@pytest.fixture
def run(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def verify(run: Path, capsys, *flags: str) -> tuple[bool, dict[str, tuple[str, str]]]:
    """Whether it passed, and name -> (result, detail) of the checks; the run is then as it was."""
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code = 0
    capsys.readouterr()
    try:
        main(["verify", str(run), "--json", *flags])
    except SystemExit as ended:
        code = ended.code
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["passed"] else 1)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    return told["passed"], {check["name"]: (check["result"], check["detail"]) for check in told["checks"]}


def test_a_whole_run_passes_and_its_steps_give_the_same_bits(run, capsys):
    passed, checks = verify(run, capsys)
    assert passed and {result for result, _ in checks.values()} == {"passed"}
    assert checks["steps"][1].startswith("12 steps, and evaluations, from the beginning to the end of epoch 2")
    _, checks = verify(run, capsys, "--steps", "6")
    assert checks["steps"][1].startswith("6 steps, and evaluations, from the end of epoch 1 to the end of epoch 2, to")
    _, checks = verify(run, capsys, "--steps", "3")
    assert checks["steps"][1].startswith(
        "3 steps, and evaluations, from the end of epoch 1 to step 3 of epoch 2, twice"
    )
    assert checks["steps"][0] == "passed"


def test_damaged_files_are_named(run, capsys):
    for name in (run_files.PREVIOUS_CHECKPOINT, run_files.BEST):
        content = bytearray((run / name).read_bytes())
        content[-200] ^= 1
        (run / name).write_bytes(content)
    lines = (run / run_files.RECORD).read_text()
    (run / run_files.RECORD).write_text(lines.replace('"epoch": 1', '"epoch": 3'))
    (run / run_files.RECIPE).write_text((run / run_files.RECIPE).read_text().replace("lr = 0.05", "lr = 0.06"))
    passed, checks = verify(run, capsys, "--steps", "0")
    assert not passed
    failed = {name for name, (result, _) in checks.items() if result == "failed"}
    assert failed >= {run_files.PREVIOUS_CHECKPOINT, run_files.BEST, run_files.RECORD, run_files.RECIPE}
    assert "lr: 0.05 -> 0.06" in checks[run_files.RECIPE][1] and "checksum" in checks[run_files.PREVIOUS_CHECKPOINT][1]
    assert checks[run_files.CHECKPOINT][0] == "passed"


@pytest.mark.parametrize("name", [run_files.BEST, run_files.PREVIOUS_BEST, run_files.RECORD, run_files.CHECKPOINT])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_named_and_not_waited_for(name, make, run, capsys):
    (run / name).unlink(missing_ok=True)
    make(run / name)
    if name == run_files.PREVIOUS_BEST:  # which is looked at when the other is not the checkpoint's
        (run / run_files.BEST).write_bytes(b"torn")
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(run), "--steps", "1"])
    printed = capsys.readouterr()
    wanted = run_files.BEST if name == run_files.PREVIOUS_BEST else name
    assert ended.value.code == 1 and "Traceback" not in printed.err and wanted in printed.out


def test_a_certificate_and_a_folded_file_of_other_weights_are_found(run, capsys):
    content = json.loads((run / "certificate.json").read_text())
    content["regions"][0]["parameters"][1] += 1
    (run / "certificate.json").write_text(json.dumps(content))
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(run / "plain.safetensors", "pt") as file:
        metadata = file.metadata()
    weights = load_file(run / "plain.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, run / "plain.safetensors", metadata)
    _, checks = verify(run, capsys, "--steps", "0")
    assert checks["certificate.json"][0] == checks["plain.safetensors"][0] == "failed"
    assert "differs from best.safetensors by" in checks["plain.safetensors"][1]


def test_steps_that_were_not_these_are_found(run, capsys):
    """A checkpoint that is whole, but of weights that no training gave."""
    path = run / run_files.CHECKPOINT
    content = checkpoint.read(path)
    name = next(name for name, tensor in content["network"].items() if tensor.ndim == 4)
    content["network"][name].view(-1)[0].add_(1e-6)
    torch.save(content, path)
    passed, checks = verify(run, capsys)
    assert not passed and checks[run_files.CHECKPOINT][0] == "passed"
    assert checks["steps"][0] == "failed" and f"such as network.{name}" in checks["steps"][1]


def test_what_is_no_run_or_is_being_trained_is_refused(run, tmp_path, capsys):
    for place, told in ((tmp_path, "holds no run"), (run, "is being trained by process")):
        with held(run), pytest.raises(SystemExit) as caught:
            main(["verify", str(place)])
        assert caught.value.code == 2 and told in capsys.readouterr().err
    assert not (run / run_files.LOCK).exists()


def test_code_is_not_imported_unless_it_is_vouched_for(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "harmful.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = run / run_files.CHECKPOINT
    content = checkpoint.read(path)
    content["recipe"] = content["recipe"].replace('model = "repvgg-pico"', 'model = "harmful:net"')
    torch.save(content, path)
    _, checks = verify(run, capsys)
    assert checks["steps"][0] == "skipped" and "harmful:net" in checks["steps"][1] and "--trust" in checks["steps"][1]
