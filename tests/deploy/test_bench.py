"""Timing: forms take turns, what is slower reads slower, threads are restored."""

from __future__ import annotations

import json
import time

import pytest
import torch
from torch import nn

from repfold.deploy import export_onnx, onnx_form, pytorch_form, time_forms
from repfold.errors import RepFoldError


def sleeper(seconds: float, calls: list[str], name: str):
    def run():
        calls.append(name)
        time.sleep(seconds)

    return run


def test_forms_take_turns_and_the_slower_reads_slower():
    calls: list[str] = []
    forms = {"slow": sleeper(0.012, calls, "slow"), "quick": sleeper(0.004, calls, "quick")}
    timings = time_forms(forms, batch=8, rounds=5)
    assert calls[4:] == ["slow", "quick", "quick", "slow", "slow", "quick", "quick", "slow", "slow", "quick"]
    slow, quick = timings.rows
    assert (slow.form, slow.batch, slow.n) == ("slow", 8, 5)
    assert slow.low_ms <= slow.median_ms <= slow.high_ms
    assert slow.median_ms >= 12 > quick.median_ms >= 4
    assert quick.images_per_second == pytest.approx(8000 / quick.median_ms)


def test_short_calls_are_repeated_within_a_measurement():
    calls: list[str] = []
    (row,) = time_forms({"tiny": lambda: calls.append("tiny")}, batch=1, rounds=1).rows
    assert len(calls) > 100 and row.n == 1 and row.median_ms < 1


def test_threads_are_set_while_timing_and_restored():
    before, seen = torch.get_num_threads(), []
    timings = time_forms({"a": lambda: seen.append(torch.get_num_threads())}, batch=1, rounds=1, threads=1)
    assert set(seen) == {1} and timings.machine["threads"] == 1
    assert torch.get_num_threads() == before


def test_pytorch_and_onnx_forms_run_the_network(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    x = torch.rand(2, 3, 8, 8)
    export_onnx(network, x, tmp_path / "net.onnx")
    forms = {"PyTorch": pytorch_form(network, x), "ONNX Runtime": onnx_form(tmp_path / "net.onnx", x, threads=1)}
    timings = time_forms(forms, batch=2, rounds=2)
    content = json.loads(json.dumps(timings.to_dict()))
    assert [row["form"] for row in content["rows"]] == ["PyTorch", "ONNX Runtime"]
    assert set(content["rows"][0]) == {"form", "batch", "median_ms", "low_ms", "high_ms", "n"}
    assert content["machine"]["torch"] == torch.__version__


def test_nothing_to_time_is_an_error():
    with pytest.raises(RepFoldError, match="nothing to time"):
        time_forms({}, batch=1)
