"""Timing: forms take turns, what is slower reads slower, threads are restored."""

from __future__ import annotations

import json
import sys
import time

import pytest
import torch
from torch import nn

import repfold
from repfold import models
from repfold.cli import main
from repfold.deploy import export_onnx, export_pt2, onnx_form, pytorch_form, time_forms
from repfold.deploy.memory import Load, peak_bytes
from repfold.errors import RepFoldError
from repfold.report.timings import timings_of


def form(name: str, seconds: float, clock, calls: list[str]):
    """A form that takes so long."""

    def run():
        calls.append(name)
        clock.let_pass(seconds)

    return run


def test_forms_take_turns_and_the_slower_reads_slower(clock):
    calls: list[str] = []
    forms = {name: form(name, seconds, clock, calls) for name, seconds in (("slow", 2**-6), ("quick", 2**-8))}
    timings = time_forms(forms, batch=8, rounds=5)
    assert calls[4:] == ["slow", "quick", "quick", "slow", "slow", "quick", "quick", "slow", "slow", "quick"]
    slow, quick = timings.rows
    assert (slow.form, slow.batch, slow.n) == ("slow", 8, 5)
    assert slow.low_ms == slow.median_ms == slow.high_ms == 1000 / 64
    assert quick.median_ms == 1000 / 256 and quick.images_per_second == 8 * 256


def test_the_middle_and_the_range_are_those_of_the_calls(clock):
    """Calls of 1 to 11 units, in any order, after those of the warm-up."""
    units = iter([1, 1, 5, 11, 1, 8, 3, 10, 2, 7, 4, 9, 6])
    (row,) = time_forms({"one": lambda: clock.let_pass(next(units) / 256)}, batch=1, rounds=11).rows
    assert [1.024 * row.median_ms, 1.024 * row.low_ms, 1.024 * row.high_ms] == pytest.approx([24, 8, 40])


def test_short_calls_are_repeated_within_a_measurement(clock):
    calls: list[str] = []
    (row,) = time_forms({"tiny": form("tiny", 2**-16, clock, calls)}, batch=1, rounds=1).rows
    # The first call warms up, the second is timed: two milliseconds are 132 of them.
    assert len(calls) == 2 + 132 and row.n == 1 and row.median_ms == 1000 / 2**16


def test_the_real_clock_is_read():
    """Sleeping takes at least as long as it is told to, whatever else runs."""
    (row,) = time_forms({"sleeps": lambda: time.sleep(0.004)}, batch=1, rounds=1).rows
    assert row.median_ms >= 4


def test_threads_are_set_while_timing_and_restored():
    before, seen = torch.get_num_threads(), []
    timings = time_forms({"a": lambda: seen.append(torch.get_num_threads())}, batch=1, rounds=1, threads=before + 1)
    assert set(seen) == {before + 1} == {timings.machine["threads"]}
    assert torch.get_num_threads() == before


def test_pytorch_and_onnx_forms_run_the_network(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 8, 8)
    export_onnx(network, x, tmp_path / "net.onnx")
    forms = {"PyTorch": pytorch_form(network, x), "ONNX Runtime": onnx_form(tmp_path / "net.onnx", x, threads=1)}
    timings = time_forms(forms, batch=2, rounds=2)
    content = json.loads(json.dumps(timings.to_dict()))
    assert [row["form"] for row in content["rows"]] == ["PyTorch", "ONNX Runtime"]
    assert {"form", "batch", "median_ms", "low_ms", "high_ms", "n", "threads"} <= set(content["rows"][0])
    assert content["machine"]["torch"] == torch.__version__


def test_nothing_to_time_is_an_error():
    with pytest.raises(RepFoldError, match="nothing to time"):
        time_forms({}, batch=1)


def test_the_command_times_models_and_files_side_by_side(tmp_path, capsys):
    network = models.create("repvgg-pico", num_classes=2).eval()
    repfold.save(network, tmp_path / "best.safetensors")
    x = torch.rand(1, 3, 16, 16)
    export_onnx(models.fold_model(models.Model(network, models.Description()), x).network, x, tmp_path / "net.onnx")
    given = [str(tmp_path / name) for name in ("best.safetensors", "net.onnx")]
    sizes = ["--batch", "1", "2", "--threads", "1", "2", "--rounds", "1", "--example", "1,3,16,16"]
    main(["bench", *given, *sizes, "--no-onnx", "--plot", str(tmp_path / "b.svg"), "-o", str(tmp_path / "b.json")])
    written = timings_of(json.loads((tmp_path / "b.json").read_text()))
    forms = {f"{given[0]}: train form, PyTorch", f"{given[0]}: folded, PyTorch", f"{given[1]}: ONNX Runtime"}
    assert {row.form for row in written.rows} == forms and len(written.rows) == 12
    assert {(row.batch, row.threads) for row in written.rows} == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert capsys.readouterr().out.count("ONNX Runtime") == 4
    assert (tmp_path / "b.svg").read_text().count("2 threads") >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is Linux' count")
def test_memory_is_that_of_weights_and_activations(tmp_path):
    """A layer of 40 MB of weights takes at least these, and one of 0.4 MB a small part of it."""
    for name, width in (("small", 100), ("large", 10_000)):
        network = nn.Sequential(nn.Conv2d(1, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1000, width))
        export_pt2(network.eval(), torch.rand(1, 1, 4, 4), tmp_path / f"{name}.pt2")
    small, large = (
        peak_bytes(Load(str(tmp_path / f"{name}.pt2"), (1, 1, 4, 4), 1, "torch")) for name in ("small", "large")
    )
    assert small is not None and large is not None
    assert large - small > 35_000_000
    assert peak_bytes(Load(str(tmp_path / "missing.pt2"), (1, 1, 4, 4), 1, "torch")) is None
