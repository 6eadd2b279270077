"""``repfold schedule``: what it prints and draws is what trains."""

import json
from pathlib import Path

import pytest

from repfold import schedule
from repfold.cli import main


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    main(["schedule", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_rates_are_those_of_the_function_that_trains(capsys: pytest.CaptureFixture[str]) -> None:
    told = run_json(
        capsys, "cosine", "step:10", "--warmup", "5", "--lr", "0.4", "--epochs", "25", "--steps-per-epoch", "50"
    )
    assert [row["name"] for row in told["schedules"]] == ["cosine", "step:10"]
    for row, then in zip(told["schedules"], (schedule.cosine(), schedule.step(10)), strict=True):
        curve = schedule.warmup(5, then=then)
        assert row["schedule"] == str(curve)
        steps = {"first step": 0, "end of warm-up": 249, "middle": 625, "last step": 1249}
        assert row["rates"] == {
            place: {"step": step, "lr": pytest.approx(0.4 * curve(step, 50, 25))} for place, step in steps.items()
        }


def test_the_table_and_the_warning_of_a_tail_above_its_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    main(
        [
            "schedule",
            "sigmoid-step-tail",
            "restarts:5,1",
            "--lr",
            "0.01",
            "--warmup-mode",
            "overlap",
            "--warmup",
            "40it",
        ]
    )
    told = capsys.readouterr()
    assert "end of warm-up" in told.out and "restarts:5,1" in told.out and "5e-05" in told.out
    assert "warning: sigmoid-step-tail: The tail starts" in told.err and "restarts" not in told.err


def test_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["schedule", "cosine", "inverse-sigmoid:2", "--plot", str(tmp_path / "lr.svg")])
    svg = (tmp_path / "lr.svg").read_text()
    assert svg.startswith("<svg") and "cosine" in svg and "inverse-sigmoid:2" in svg
    assert str(tmp_path / "lr.svg") in capsys.readouterr().out
    drawn = []
    for log in (["--log"], []):
        main(
            [
                "schedule",
                "one-cycle",
                "--plot",
                str(tmp_path / "lr.svg"),
                *log,
                "--epochs",
                "3",
                "--steps-per-epoch",
                "1",
            ]
        )
        drawn.append((tmp_path / "lr.svg").read_text())
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cosin"], "Did you mean 'cosine'"),
        ([], "Name one or more schedules"),
        (["inverse-sigmoid:12"], "n/10"),
        (["cosine", "--warmup", "120"], "shorten the warm-up or train longer"),
        (["cosine", "--warmup", "x"], "not a length"),
        (["cosine", "--lr", "0"], "above 0"),
        (["cosine", "--epochs", "0"], "nothing to schedule"),
        (["cosine", "--plot", "lr.bmp"], ".svg"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["schedule", *arguments])
    told = capsys.readouterr()
    assert stopped.value.code == 2 and message in told.err and not told.out
    assert not list(tmp_path.iterdir())
