"""A study runs what is missing and nothing else: interrupted, extended, shared, failing, out of time."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from tests.study.conftest import TINY, Heard, run

from repfold.errors import RepFoldError
from repfold.study import code, rounds, study_file
from repfold.study.events import OutOfTime
from repfold.study.results import read_results
from repfold.study.run_study import Resources, run_study
from repfold.study.store import FINISHED, Store
from repfold.study.trial import comparable, key_of
from repfold.train import Recipe, train

ALL = {f"{arm}, seed {seed}" for arm in ("none", "low") for seed in (0, 1)}


@pytest.fixture
def place(trained, tmp_path) -> Path:
    shutil.copytree(trained[1].path, tmp_path / "trials")
    return tmp_path / "trials"


def test_every_arm_with_every_seed(trained):
    study, store, heard = trained
    assert heard.ended == dict.fromkeys(ALL, "trained")
    assert (heard.begun.finished, heard.begun.total) == (0, 4)
    results = read_results(study, store)
    assert [(arm.arm.name, len(arm.runs), arm.comparison.n) for arm in results.arms] == [("none", 2, 2), ("low", 2, 2)]
    assert not list(store.path.glob("*/checkpoint.pt")) and not list(store.path.glob("*/best.safetensors"))


def test_a_trial_is_what_train_gives(trained, tmp_path):
    """In its process of the pool, with the study's eyes on it, a trial ends at the bits of a training by itself."""
    study, store, _ = trained
    recipe = comparable(study.arm("low").recipe, 1)
    alone = train(recipe.replace(threads=1), tmp_path / "alone").records[-1]
    run_ = next(one for one in read_results(study, store).arm("low").runs if one.seed == 1)
    for key in ("train_loss", "val_loss", "val_top1", "lr"):
        assert run_.epochs[-1][key] == alone[key]


def test_again_trains_nothing(trained, place):
    _, _, heard = run(TINY, place)
    assert heard.ended == {} and heard.begun.finished == 4


def test_a_seed_more_and_an_arm_more(trained, place):
    more = TINY.replace("[0, 1]", "[0, 1, 2]") + "[arms.high]\nlr = 0.5\n"
    _, _, heard = run(more, place)
    assert set(heard.ended) == {"none, seed 2", "low, seed 2", *(f"high, seed {seed}" for seed in (0, 1, 2))}


def test_identical_trials_of_two_studies_run_once(trained, place):
    other = TINY.replace('"tiny"', '"other"').replace("[arms.none]", "[arms.usual]").replace('"none"', '"usual"')
    study, store, heard = run(other, place)
    assert heard.ended == {}
    assert read_results(study, store).finished == 4


def test_what_was_left_half_done_is_done_again(trained, place):
    damaged = sorted(place.glob(f"*/{FINISHED}"))[0]
    damaged.write_text(damaged.read_text()[:40])
    shutil.rmtree(sorted(place.glob("*-*"))[1])
    _, _, heard = run(TINY, place)
    assert len(heard.ended) == 2
    assert all(json.loads(path.read_text())["seed"] in (0, 1) for path in place.glob(f"*/{FINISHED}"))


def test_a_failing_arm_leaves_the_others_and_its_reason(trained, place):
    text = TINY + '[arms.wrong]\nmodel_options = "depth=9999"\n'
    study, store, heard = run(text, place)
    assert heard.ended == {"wrong, seed 0": "failed", "wrong, seed 1": "failed"}
    results = read_results(study, store)
    (trial, failure), _ = results.arm("wrong").failed
    assert "depth" in failure.error and f"{trial.key}-" in failure.command and "--recipe" in failure.command
    assert (results.finished, results.failed) == (4, 2)
    _, _, again = run(text, place)
    assert set(again.ended.values()) == {"failed"}, "a failed trial is tried again"


def test_no_round_is_begun_that_does_not_fit(trained, place):
    _, _, heard = run(TINY.replace("[0, 1]", "[0, 1, 2]"), place, hours=0.0)
    assert heard.ended == {} and [event.left for event in heard if isinstance(event, OutOfTime)] == [2]


def test_what_another_runner_has_is_waited_for_and_not_trained(trained, place):
    """The other is a thread here that holds the claim of one trial, and finishes it."""
    study, store, _ = trained
    trial = rounds.rounds(study, store)[1][0]
    mine = Store(place)
    finished = mine.finished(trial)
    result = (finished / FINISHED).read_text()
    (finished / FINISHED).unlink()
    claimed = threading.Event()

    def other():
        with Store(place).claim(trial.key):
            claimed.set()
            waited.wait(30)
            (finished / FINISHED).write_text(result)

    waited, heard = threading.Event(), Heard()
    thread = threading.Thread(target=other)
    thread.start()
    claimed.wait()

    def listen(event):
        heard(event)
        if type(event).__name__ == "Waiting":
            waited.set()

    run_study(study, mine, Resources(jobs=1, threads=1), listen)
    thread.join()
    assert waited.is_set() and heard.ended == {"none, seed 1": "found"}


def test_before_the_arms(tmp_path):
    """The network that arms start from is trained once, first, and its key is part of theirs."""
    text = TINY.replace("seeds = [0, 1]", "seeds = [0]") + (
        '[arms.tuned]\ninit = "{start}"\n[before.start]\nlr = 0.05\nseed = 7\n'
    )
    study, store, heard = run(text, tmp_path)
    assert next(iter(heard.ended)) == "before: repvgg-pico" and len(heard.ended) == 4
    results = read_results(study, store)
    assert results.arm("tuned").runs and results.before[0][0] == "start"
    other = study_file.parse(text.replace("lr = 0.05", "lr = 0.06"))
    keys = [{arm: trial.key for trial in rounds.rounds(one, store)[0] for arm in [trial.arm]} for one in (study, other)]
    assert keys[0]["none"] == keys[1]["none"] and keys[0]["tuned"] != keys[1]["tuned"]


def test_a_disk_that_takes_nothing_more(trained, place, monkeypatch):
    """What was finished stays; what could not be written is said to have failed, with why, and is trained again."""
    from repfold.study import store as stores
    from repfold.study import worker
    from repfold.study.order import Order

    study, _, _ = trained
    store = Store(place)
    trial, other = rounds.rounds(study, store)[0]
    shutil.rmtree(store.finished(trial))
    store.look_again()

    def full(*given, **more):
        raise OSError(28, "No space left on device", str(given[0]))

    with monkeypatch.context() as patch:
        patch.setattr(stores.atomic, "write_json", full)
        how, why = worker.attempt(Order(trial, place, 1), None)
    assert how == worker.FAILED and "No space left on device" in why
    store.look_again()
    assert store.finished(trial) is None and store.finished(other) is not None
    assert worker.attempt(Order(trial, place, 1), None)[0] == worker.DONE


def test_code_is_not_run_at_the_word_of_a_file(tmp_path):
    with pytest.raises(RepFoldError, match="--trust"):
        run(TINY + '[arms.own]\nmodel = "os:system"\n', tmp_path)


def test_keys():
    """What a result depends on changes the key, and what it does not depend on leaves it."""
    recipe = comparable(Recipe(data="digits", per_class=(4, 4)), 0)
    key = key_of(recipe, {})
    assert key == key_of(recipe.replace(threads=2, checkpoint_every=3, checkpoint_seconds=1.0), {})
    for change in ({"lr": 0.2}, {"seed": 1}, {"per_class": (4, 5)}, {"data_seed": 1}, {"precision": "bf16"}):
        assert key != key_of(recipe.replace(**change), {}), change
    with pytest.raises(RepFoldError, match="names no data"):
        key_of(Recipe(), {})


def test_which_code_counts(trained, place):
    """A changed file that a trial ran invalidates it; one that it never ran, or that says the same, does not."""
    study, _, _ = trained
    trial = rounds.rounds(study, Store(place))[0][0]
    told = json.loads((Store(place).finished(trial) / FINISHED).read_text())["code"]["files"]
    assert {"train/step.py", "models/repvgg.py", "data/loader.py", "schedule/decay.py"} <= set(told)
    assert not {"blocks/dbb.py", "models/mobileone.py", "data/augment/policies.py"} & set(told)
    assert not any(name.startswith(("cli", "report", "study", "deploy", "engine")) for name in told)

    def invalid(name):
        return Store(place, code.Code(code.here().files | {name: code.File("new")})).finished(trial) is None

    assert invalid("train/step.py") and invalid("models/repvgg.py") and not invalid("blocks/dbb.py")


def test_what_is_edited_while_a_study_runs_is_not_what_ran(tmp_path):
    """A process has the code that was on the disk when it was loaded, and what was loaded later is as it is now."""
    from repfold.schedule import decay
    from repfold.train import step

    known = code.Code({"train/step.py": code.File("as it was"), "schedule/decay.py": code.File("as it was")})
    watch = code.Watch(known)
    watch.modules |= {step.__name__, decay.__name__}
    watch.loaded.discard(decay.__name__)
    digests = watch.digests()
    assert digests["train/step.py"] == "as it was"
    assert digests["schedule/decay.py"] == code.here().file("schedule/decay.py").digest != "as it was"


def test_comments_docstrings_and_formatting_do_not_count(tmp_path):
    texts = {
        "a": 'def f(x):\n    """Double."""\n    return 2 * x\n',
        "same": "# A comment.\ndef f(x):\n    return (2 *  x)\n",
        "other": "def f(x):\n    return 3 * x\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    one, same, other = (code._read(tmp_path / f"{name}.py").digest for name in texts)
    assert one == same != other
