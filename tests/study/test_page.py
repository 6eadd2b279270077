"""The page of a study: what it says, and what it does in a real browser, where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.report.html_reader import Page

from repfold.report.scatter import Spot, front
from repfold.study import study_file
from repfold.study.page import page
from repfold.study.results import read_results
from repfold.study.store import FINISHED, Store
from repfold.study.study_directory import StudyDirectory

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr --dump-dom"
)
TEXT = """
name = "made-up"
title = "Does <b>it</b> help?"
recipe = "digits"
seeds = [0, 1, 2]
reference = "none"
metric = "val_top1"
[settings]
per_class = [4, 4]
epochs = 4
[arms.none]
warmup = "0"
[arms.high]
lr = 0.4
[arms.low]
lr = 0.001
[claims]
high = "A high rate helps"
[[published]]
arm = "high"
value = 88.25
source = "Somebody & others"
differs = "larger images"
"""
VALUES = {"none": (60.0, 61.0, 62.0), "high": (70.0, 72.0, 71.0), "low": (59.0, 63.0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> StudyDirectory:
    """Trials as the pool leaves them, of values by hand: an arm that wins, and one that lacks a seed."""
    from repfold.study import code, rounds
    from repfold.study.trial import told

    place = tmp_path_factory.mktemp("page")
    study, store = study_file.parse(TEXT), Store(place / "trials")
    for index, of_seed in enumerate(rounds.rounds(study, store)):
        for trial in of_seed:
            if index >= len(VALUES[trial.arm]):
                continue
            directory = store.directory(trial)
            directory.mkdir(parents=True)
            last = VALUES[trial.arm][index]
            lines = [
                {"epoch": e, "step": 2 * e, "lr_first": 0.1, "lr": 0.1 / e, "train_loss": 2 / e, "val_loss": 3 / e}
                | {"train_top1": last - 1, "val_top1": last - 4 + e, "val_top5": 99.0, "seconds": 0.5}
                for e in range(1, 5)
            ]
            (directory / "record.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            result = {
                "recipe": told(trial.recipe),
                "code": {"torch": code.torch_version(), "files": {}},
                "seconds": 2.0,
            }
            (directory / FINISHED).write_text(json.dumps(result))
    return StudyDirectory(place / "out", study, store, "repfold study run made-up.toml --out out")


def test_the_page_says_what_follows(made):
    made.begin(TEXT)
    made.write(measure=False)
    table = json.loads((made.path / "table.json").read_text())
    assert [(row["arm"], row["n"], row["verdict"]) for row in table] == [
        ("none", 3, "does not"),
        ("high", 3, "holds"),
        ("low", 2, "cannot tell"),
    ]
    assert table[1]["difference"] == pytest.approx(10.0) and table[1]["low"] < 10 < table[1]["high"]
    text = (made.path / "report.html").read_text()
    assert "A high rate helps: holds. +10.00 points, 95 % interval" in text
    assert "8 of 9 trials finished" in text and "half-way" in text and "88.25" in text and "larger images" in text
    assert "<b>it</b>" not in text and not re.search(r"https?://(?!www\.w3\.org/)", text)


# Sort by the difference, point at an arm's line, hide it, and leave on the page what was seen.
ACT = """<script>
const table = document.querySelector(".sortable table"), seen = [];
const arms = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
const head = [...table.tHead.rows[0].cells].find((cell) => cell.textContent.startsWith("top-1"));
seen.push(arms()); head.click(); seen.push(arms()); head.click(); seen.push(arms(), head.getAttribute("aria-sort"));
const chart = document.getElementById("chart-1"), box = chart.getBoundingClientRect();
const data = JSON.parse(document.querySelector("script.hover").textContent)["chart-1"];
const high = data.series.find((one) => one.name === "high");
const at = ([low, top, from, to], value) => from + (value - low) / (top - low) * (to - from);
const scale = box.width / chart.viewBox.baseVal.width;
const point = () => chart.dispatchEvent(new PointerEvent("pointermove", {
  clientX: box.left + at(data.x, high.x[2]) * scale, clientY: box.top + at(data.y, high.y[2]) * scale }));
const runs = () => [...chart.querySelectorAll(".single")].map((path) => path.getAttribute("class").split(" ").at(-1));
point(); seen.push(runs(), document.getElementById("tooltip").textContent.includes("high"));
document.querySelector('.legend [data-style="1"]').click(); point(); seen.push(runs().includes("c1"));
chart.dispatchEvent(new PointerEvent("pointerleave")); seen.push(runs().length);
seen.push(document.documentElement.scrollWidth <= innerWidth);
const output = document.createElement("output"); output.textContent = JSON.stringify(seen);
document.body.append(output);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_sorting_single_runs_and_the_legend_in_a_browser(made, tmp_path):
    text = page(read_results(made.study, made.store), {"none": 1.0, "high": 2.0}, made.command)
    silent, acted = tmp_path / "silent.html", tmp_path / "acted.html"
    silent.write_text(text, encoding="utf-8")
    # The page's own policy would refuse the actor.
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    acted.write_text(without_policy.replace("</body>", ACT), encoding="utf-8")

    def visit(path: Path) -> str:
        command = [CHROMIUM, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", "--window-size=500,900"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=300)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    assert "<section" in visit(silent)
    told = next(text for tag, text in Page(visit(acted)).texts if tag == "output")
    given, up, down, order, shown, named, hidden, left, fits = json.loads(told)
    assert given == ["none", "high", "low"] and up[-1] == down[0] == "high" and order == "descending"
    assert shown == ["c1"] * 3 and named and not hidden and left == 0 and fits


def test_the_front():
    spots = [Spot("a", 1, 60, 0), Spot("b", 2, 59, 1), Spot("c", 3, 70, 2), Spot("d", 3, 65, 3)]
    assert [spot.name for spot in front(spots)] == ["a", "c"]
    assert [spot.name for spot in front(spots, higher=False)] == ["a", "b"]
