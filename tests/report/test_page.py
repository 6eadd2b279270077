"""The whole page, for the run directories that a training can leave behind."""

import json
import re

import pytest
from tests.report.html_reader import Page
from tests.report.run_files import write_run

from repfold import report
from repfold.errors import RepFoldError

HOSTILE = "</script><script>alert('\"&')</script><!-- <img src=x onerror=alert(1)> $x$ ]]>"


def page_of(tmp_path, *runs):
    page = Page(report.write(runs, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.faults == []
    assert page.requests() == []
    return page


def sections(page):
    return [attributes["id"] for attributes in page.having("section")]


def test_one_run_has_every_section_and_its_figures(tmp_path):
    run = write_run(tmp_path / "demo")
    page = page_of(tmp_path, run)
    after = ["confusion", "certificate", "timings", "recipe", "environment"]
    assert sections(page) == ["summary", "curves", "advice", *after]
    assert len([a for a in page.having("svg") if a["class"] == "chart"]) == 9
    best = max(json.loads(line)["val_top1"] for line in (run / "record.jsonl").read_text().splitlines())
    text = page.text()
    for words in (
        f"{best:.2f}",
        "repvgg-a0 on imagenette-subset",
        "weight_decay",
        "Example 9000",
        "4.1·10⁻⁷",
        "repfold train 'my data' --seed=0",
    ):
        assert words in text
    assert "a pooling stands between the convolution and the linear layer" in text


def test_the_same_runs_give_the_same_bytes_and_a_small_page(tmp_path):
    run = write_run(tmp_path / "demo")
    first = report.write([run], tmp_path / "a.html").read_bytes()
    assert first == report.write([str(run)], tmp_path / "b.html").read_bytes()
    assert len(first) < 120_000


def test_nothing_that_a_user_names_can_become_markup(tmp_path):
    recipe = {"model": HOSTILE, HOSTILE.replace('"', ""): 1}
    run = write_run(tmp_path / "demo", classes=(HOSTILE, "b", "c", "d", "e"), epochs=2, without=("recipe.toml",))
    (run / "recipe.toml").write_text("".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in recipe.items()))
    (run / "environment.json").write_text(json.dumps({HOSTILE: {HOSTILE: [HOSTILE]}}))
    rows = [{"form": HOSTILE, "batch": 1, "median_ms": 1, "low_ms": 1, "high_ms": 1, "n": 1}]
    (run / "timings.json").write_text(json.dumps({"machine": {HOSTILE: HOSTILE}, "rows": rows}))
    region = {"name": HOSTILE, "error": 1e-7, "parameters": HOSTILE}
    left = [{"name": HOSTILE, "reason": HOSTILE}]
    (run / "certificate.json").write_text(json.dumps({"dtype": HOSTILE, "regions": [region], "left": left}))
    (run / "<b>file").write_text("")
    other = write_run(tmp_path / "<i>other", epochs=2)
    for runs in ([run], [run, other]):
        page = page_of(tmp_path, *runs)
        assert len(page.having("script")) == 2 and len(page.having("b")) == len(page.having("figure"))
        assert all(attributes["src"].startswith("data:") for attributes in page.having("img"))
        assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
        assert HOSTILE in page.text()


def test_scripts_run_only_when_they_are_the_pages_own(tmp_path):
    import base64
    import hashlib

    page = page_of(tmp_path, write_run(tmp_path / "demo", epochs=1))
    (policy,) = [a["content"] for a in page.having("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    script = page.texts[max(index for index, (tag, _) in enumerate(page.texts) if tag == "script")][1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy


def test_an_interrupted_run_says_so_and_shows_what_there_is(tmp_path):
    absent = ("certificate.json", "timings.json", "confusion.json", "environment.json")
    run = write_run(tmp_path / "demo", epochs=30, recorded=7, without=absent)
    with open(run / "record.jsonl", "a") as file:
        file.write('{"epoch": 8, "lr"')
    page = page_of(tmp_path, run)
    assert sections(page) == ["summary", "curves", "advice", "recipe"]
    assert "7 of 30 epochs" in page.text() and "damaged line" in page.text()


def test_the_barest_run_has_a_page(tmp_path):
    run = tmp_path / "bare"
    run.mkdir()
    (run / "record.jsonl").write_text('{"epoch": 1}\n')
    page = page_of(tmp_path, run)
    assert sections(page) == ["summary", "curves"]
    assert "no recipe.toml" in page.text()


def test_two_classes_and_one_epoch(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "demo", classes=("cat", "dog"), epochs=1))
    assert "Top-5 accuracy" not in page.text() and "top-5" not in page.text()
    assert "Top-1 accuracy" in page.text()


def test_values_that_are_not_finite_leave_gaps_and_a_note(tmp_path):
    run = write_run(tmp_path / "demo", epochs=5)
    lines = (run / "record.jsonl").read_text().splitlines()
    diverged = {**json.loads(lines[3]), "train_loss": float("nan"), "val_loss": float("inf"), "val_top1": None}
    (run / "record.jsonl").write_text("\n".join([*lines[:3], json.dumps(diverged), lines[4]]))
    page = page_of(tmp_path, run)
    assert "first in epoch 4" in page.text()
    assert "NaN" in page.text() and "∞" in page.text()
    data = json.loads(next(text for tag, text in page.texts if tag == "script"))
    loss = next(chart for chart in data.values() if len(chart["series"]) == 2 and chart["decimals"] is None)
    assert loss["series"][0]["y"][3] is None and loss["series"][0]["y"][4] is not None


def test_a_loss_that_exploded_is_drawn_by_its_logarithm(tmp_path):
    run = write_run(tmp_path / "demo", epochs=3)
    lines = [json.loads(line) for line in (run / "record.jsonl").read_text().splitlines()]
    lines[2]["train_loss"] = 1e9
    (run / "record.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert "logarithmic" in page_of(tmp_path, run).text()


def test_many_classes_make_no_large_page(tmp_path):
    run = write_run(tmp_path / "demo", classes=tuple(f"class {i}" for i in range(150)), images=20)
    page = page_of(tmp_path, run)
    assert (tmp_path / "page.html").stat().st_size < 200_000
    assert "The 10 weakest of 150 classes" in page.text()


def test_runs_that_differ_in_the_seed_are_drawn_as_arms(tmp_path):
    runs = [
        write_run(tmp_path / f"{name}-s{seed}", seed=seed, warmup=warmup)
        for name, warmup in (("cosine", 0), ("warmup", 5))
        for seed in range(3)
    ]
    page = page_of(tmp_path, *runs)
    text = page.text()
    assert "cosine (n = 3)" in text and "warmup (n = 3)" in text
    assert len(re.findall(r"\d\d\.\d\d ± \d+\.\d\d", text)) == 16  # two arms, best and last, four scores
    assert len([a for a in page.having("button") if a.get("aria-pressed") == "true"]) == 2
    assert [a for a in page.having("path") if a.get("class") == "band"]
    marked = [a for a in page.having("tr") if a.get("class") == "marked"]
    assert marked and "0ep" in text and "The same for all" in text
    assert "summed over 3 runs" in text
    assert "differs" not in text.split("Environment")[-1]  # the seed on the command line makes no other environment


def test_runs_of_different_networks_and_classes_share_a_page(tmp_path):
    one = write_run(tmp_path / "a", epochs=2)
    other = write_run(tmp_path / "b", epochs=4, classes=("x", "y", "z"), recipe={"model": "repvgg-b0"})
    page = page_of(tmp_path, one, other)
    assert next(data for tag, data in page.texts if tag == "h1") == "2 runs"
    assert sections(page)[0] == "summary"


def test_many_arms_and_long_names_make_no_endless_page(tmp_path):
    name = "n" * 120
    runs = [
        write_run(tmp_path / f"{name}{i:02d}", epochs=2, warmup=i, classes=(name + "a", name + "b"), images=5)
        for i in range(40)
    ]
    page = page_of(tmp_path, *runs)
    assert (tmp_path / "page.html").stat().st_size < 600_000
    assert len([a for a in page.having("button") if "data-style" in a]) == 24
    assert "The first 24 of 40 are shown" in page.text() and "The first 12 of 40 are shown" in page.text()
    assert "All 40 runs" in page.text()


def test_many_epochs_leave_the_table_to_the_record(tmp_path):
    page = page_of(tmp_path, write_run(tmp_path / "demo", epochs=450))
    assert "too many for a table" in page.text()


def test_a_page_that_cannot_be_written_is_told(tmp_path):
    run = write_run(tmp_path / "demo", epochs=1)
    with pytest.raises(RepFoldError, match="is a directory"):
        report.write([run], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RepFoldError, match="cannot be written"):
        report.write([run], tmp_path / "file" / "page.html")
