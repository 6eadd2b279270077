"""Advice: each finding from curves that show it and nothing else, and none from healthy ones."""

import json
import math

import pytest

from repfold.cli import main
from repfold.report.advice import advise
from repfold.report.records import read_runs

EPOCHS = 20


def written(directory, *, recipe=None, data=None, **columns):
    """A run whose curves are functions of the share of the training done; by default healthy ones."""
    curves = {
        "train_top1": lambda x: 60 + 35 * math.sqrt(x),
        "val_top1": lambda x: 58 + 34 * min(1, 1.4 * x),
        "train_loss": lambda x: 1.4 - 1.2 * math.sqrt(x),
        "val_loss": lambda x: 1.4 - 1.1 * math.sqrt(x),
        "lr": lambda x: 0.05 * (1 + math.cos(math.pi * x)),
        "lr_first": lambda x: 0.05 * (1 + math.cos(math.pi * max(0, x - 1 / EPOCHS))),
        "waiting_share": lambda x: 0.01,
    } | columns
    settings = {"epochs": EPOCHS, "batch": 128, "lr": 0.1, "weight_decay": 1e-4, "augment": "none"} | (recipe or {})
    facts = {"classes": 10, "training_images": 5000, "validation_images": 2000, "crop": "resized"} | (data or {})
    lines = [
        json.dumps({"epoch": e, **{key: curve(e / EPOCHS) for key, curve in curves.items()}})
        for e in range(1, EPOCHS + 1)
    ]
    directory.mkdir(exist_ok=True)
    (directory / "record.jsonl").write_text("\n".join(lines))
    (directory / "recipe.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))
    (directory / "environment.json").write_text(json.dumps({"data": facts}))
    return directory


def findings(directory, **told):
    (run,) = read_runs([written(directory, **told)])
    return advise(run)


CASES = {
    "diverged": {"val_loss": lambda x: math.nan if x > 0.5 else 1.0},
    "spikes": {"train_loss": lambda x: 2.0 if x == 0.5 else 1.4 - 1.2 * math.sqrt(x)},
    "warm-up": {"recipe": {"batch": 2048}},
    "overfits": {"train_top1": lambda x: 60 + 40 * x, "val_top1": lambda x: 50 + 20 * min(1, 2 * x)},
    "underfits": {"train_top1": lambda x: 50 + 20 * min(1, 2 * x), "val_top1": lambda x: 55 + 20 * min(1, 2 * x)},
    "schedule": {"train_top1": lambda x: 30 + 50 * x, "val_top1": lambda x: 28 + 50 * x},
    "loader": {"waiting_share": lambda x: 0.4},
}


@pytest.mark.parametrize("topic", CASES)
def test_each_finding_comes_from_curves_that_show_it(tmp_path, topic):
    found = findings(tmp_path / "run", **CASES[topic])
    assert [finding.topic for finding in found] == [topic]
    assert found[0].evidence and found[0].says


def test_healthy_curves_ask_for_no_change(tmp_path):
    (finding,) = findings(tmp_path / "run")
    assert finding.topic == "healthy" and not finding.changes
    assert "95.00 %" in finding.evidence[0] or "training" in finding.evidence[0]


def changes(found):
    return {change.setting: change.then for finding in found for change in finding.changes}


def test_overfitting_asks_for_what_the_recipe_does_not_have_yet(tmp_path):
    first = changes(findings(tmp_path / "a", **CASES["overfits"], recipe={"batch": 32}))
    assert first == {
        "weight_decay": "0.0003",
        "augment": "randaugment:layers=2,magnitude=9",
        "cutmix": "1.0",
        "label_smoothing": "0.1",
    }
    brief = changes(findings(tmp_path / "brief", **CASES["overfits"], recipe={"batch": 512}))
    assert set(brief) == set(first) - {"cutmix"}
    strong = {"augment": "cutout", "mixup": 0.2, "label_smoothing": 0.1, "weight_decay": 5e-4}
    assert set(changes(findings(tmp_path / "b", **CASES["overfits"], recipe=strong))) == {"weight_decay"}


def test_underfitting_asks_for_less_of_what_the_recipe_has(tmp_path):
    strong = {"augment": "cutout", "mixup": 0.2, "label_smoothing": 0.1, "crop_scale": [0.08, 1.0]}
    assert changes(findings(tmp_path / "run", **CASES["underfits"], recipe=strong)) == {
        "weight_decay": "3.3e-05",
        "augment": "none",
        "mixup": "0",
        "label_smoothing": "0",
        "crop_scale": "0.2, 1",
    }


def test_a_difference_within_the_noise_of_few_images_says_nothing(tmp_path):
    close = {"train_top1": lambda x: 70.0, "val_top1": lambda x: 73.0}
    assert findings(tmp_path / "many", **close)[0].topic == "underfits"
    assert findings(tmp_path / "few", **close, data={"validation_images": 100})[0].topic == "healthy"


def test_a_rate_that_never_came_down_is_told_with_the_figures(tmp_path):
    flat = {"lr": lambda x: 0.1, "lr_first": lambda x: 0.1, "recipe": {"schedule": "step"}}
    (finding,) = findings(tmp_path / "run", **flat)
    assert finding.topic == "schedule" and "0.1" in finding.evidence[0] and changes([finding]) == {"schedule": "cosine"}


def test_a_restart_is_no_spike(tmp_path):
    assert findings(tmp_path / "run", **CASES["spikes"], recipe={"schedule": "sgdr:first=5ep"})[0].topic == "healthy"


def test_losses_above_guessing_ask_for_a_warm_up(tmp_path):
    bad = {"train_loss": lambda x: 3.5 - 3.2 * math.sqrt(x)}
    assert changes(findings(tmp_path / "run", **bad)) == {"warmup": "5ep"}
    assert findings(tmp_path / "warm", **bad, recipe={"warmup": "5ep"})[0].topic == "healthy"


def test_a_record_of_two_epochs_is_too_short_to_tell(tmp_path):
    directory = written(tmp_path / "run")
    lines = (directory / "record.jsonl").read_text().splitlines()
    (directory / "record.jsonl").write_text("\n".join(lines[:2]))
    (run,) = read_runs([directory])
    assert [finding.topic for finding in advise(run)] == ["too-early"]


def test_a_record_of_nothing_but_epochs_says_nothing_wrong(tmp_path):
    (tmp_path / "record.jsonl").write_text("".join(f'{{"epoch": {e}}}\n' for e in range(1, 9)))
    (run,) = read_runs([tmp_path])
    assert [finding.topic for finding in advise(run)] == ["healthy"]


def test_the_command_prints_flags_that_train_takes_json_and_a_picture(tmp_path, capsys):
    directory = written(tmp_path / "run", **CASES["overfits"])
    main(["advise", str(directory), "--plot", str(tmp_path / "fit.svg")])
    told = capsys.readouterr().out
    assert "It overfits" in told and "--weight-decay 0.0003" in told and "100.00 %" not in told.split("It overfits")[0]
    assert (tmp_path / "fit.svg").read_text().startswith("<svg")
    main(["advise", str(directory), "--json"])
    content = json.loads(capsys.readouterr().out)
    assert content["findings"][0]["topic"] == "overfits"
    with pytest.raises(SystemExit) as stopped:
        main(["advise", str(tmp_path / "nothing")])
    assert stopped.value.code == 2 and "does not exist" in capsys.readouterr().err
