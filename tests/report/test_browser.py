"""The page in a real browser, where there is one: no complaint on its console, and the pointer brings the values up."""

import re
import shutil
import subprocess

import pytest
from tests.report.html_reader import Page
from tests.report.run_files import write_run

from repfold import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --enable-logging=stderr --dump-dom"
)
# Point at epoch 3 in the second chart, hide the first arm, and leave on the page what was seen.
ACT = """<script>
const chart = document.getElementById("chart-1"), box = chart.getBoundingClientRect();
const x = box.left + (62 + (410 - 62) * 3.1 / 4) / 420 * box.width;
const point = () => chart.dispatchEvent(new PointerEvent("pointermove", { clientX: x, clientY: box.top + 20 }));
const tooltip = document.getElementById("tooltip"), seen = [];
seen.push(tooltip.hidden); point(); seen.push(tooltip.hidden, tooltip.textContent);
document.querySelector(".legend button").click(); point(); seen.push(tooltip.textContent);
seen.push(getComputedStyle(chart.querySelector(".series")).display);
chart.dispatchEvent(new PointerEvent("pointerleave")); seen.push(tooltip.hidden);
seen.push(document.documentElement.scrollWidth <= innerWidth);
const output = document.createElement("output"); output.textContent = JSON.stringify(seen);
document.body.append(output);
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_pointer_and_legend_in_a_browser(tmp_path):
    runs = [write_run(tmp_path / name, epochs=4, warmup=warmup) for name, warmup in (("cosine", 0), ("warm<up>", 2))]
    page = report.write(runs, tmp_path / "page.html").read_text(encoding="utf-8")
    silent, acted = tmp_path / "silent.html", tmp_path / "acted.html"
    silent.write_text(page, encoding="utf-8")
    # The page's own policy would refuse the actor.
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    acted.write_text(without_policy.replace("</body>", ACT), encoding="utf-8")

    def visit(path, width):
        command = [CHROMIUM, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120)
        assert "CONSOLE" not in done.stderr, done.stderr
        return done.stdout

    assert "<section" in visit(silent, 1280)
    import json

    shown = Page(visit(acted, 500)).texts
    before, hidden, both, one, display, after, fits = json.loads(next(text for tag, text in shown if tag == "output"))
    top1 = [json.loads((run / "record.jsonl").read_text().splitlines()[2])["val_top1"] for run in runs]
    written = [f"{float(f'{value:.5g}'):.2f}" for value in top1]
    assert both == f"epoch 3cosine{written[0]}warm<up>{written[1]}"
    assert one == f"epoch 3warm<up>{written[1]}"
    assert (before, hidden, display, after, fits) == (True, False, "none", True, True)
