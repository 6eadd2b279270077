"""A small part of the bad inputs, and that their judge is no friend of ours. All: python -m tests.faults.bad_inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.faults import bad_cases, bad_inputs

from repfold.cli import COMMANDS

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")


@linux
def test_bad_inputs_get_one_clear_answer_each(tmp_path: Path) -> None:
    seed = os.environ.get("REPFOLD_FAULTS_SEED", "0")
    outcomes = tmp_path / "outcomes.json"
    options = ["--sample", "8", "--seed", seed, "--out", str(outcomes)]
    words = [sys.executable, "-m", "tests.faults.bad_inputs", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, f"--seed {seed}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    told = json.loads(outcomes.read_text())
    assert told["cases"] == 8 == told["accepted"] + told["refused"] and told["refused"] >= 3


@linux
@pytest.mark.parametrize(
    ("printed", "code", "hung", "verdict"),
    [
        ("", 0, False, "accepted"),
        ("repfold: no such file. Check the path.", 2, False, "refused"),
        ("", 2, False, "silent"),
        ("Traceback (most recent call last):\n  ...\nrepfold: a fault", 1, False, "traceback"),
        ("Traceback (most recent call last):\n", 2, False, "traceback"),
        ("free(): invalid pointer", -6, False, "raw exit"),
        ("", 139, False, "raw exit"),
        ("", -9, True, "hang"),
    ],
)
def test_the_judge_sees_what_is_not_clean(tmp_path: Path, printed: str, code: int, hung: bool, verdict: str) -> None:
    (tmp_path / ".stdout").write_text("")
    (tmp_path / ".stderr").write_text(printed)
    case = bad_cases.Case("any", ("recipes",))
    outcome = bad_inputs._judge(case, tmp_path, code, 1.0, hung=hung)
    assert outcome.verdict == verdict
    assert (verdict in bad_inputs.CLEAN) == (verdict in ("accepted", "refused"))


@linux
def test_there_are_cases_for_every_verb() -> None:
    cases = bad_cases.all_cases()
    assert len(cases) >= 600 and {case.arguments[0] for case in cases} >= set(COMMANDS)
