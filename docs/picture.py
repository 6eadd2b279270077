"""Draw docs/report.png: the upper part of the demo's page, as a browser shows it.

    make demo && python docs/picture.py

The README shows this picture beside what the same run printed: make both anew together.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE, PICTURE = ROOT / "runs" / "demo" / "report.html", ROOT / "docs" / "report.png"
SIZE = "1180,2070"
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars"
)


def main() -> None:
    """Take the picture; exits with a message when there is no page, or no browser."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None or not PAGE.exists():
        sys.exit("This needs Chromium, and the page of `make demo`.")
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        where = [f"--user-data-dir={folder}", f"--window-size={SIZE}", f"--screenshot={shot}"]
        subprocess.run([browser, *QUIET.split(), *where, PAGE.as_uri()], check=True, stderr=subprocess.DEVNULL)
        # A page has few colours, the rarest among them with a meaning; the file stays a third of its size.
        page = Image.open(shot).convert("RGB")
        page.quantize(160, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
