"""What environment.json tells of the person who trained: no secrets, no home directories."""

from __future__ import annotations

import json

import pytest

from repfold.train import privacy, record

HIDDEN = privacy.HIDDEN


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/opt/venv/bin/repfold train digits --lr 0.1 -o runs/a", "repfold train digits --lr 0.1 -o runs/a"),
        ("repfold train --per-class 2 5 --no-finish --lr=-1 x", "repfold train --per-class 2 5 --no-finish --lr=-1 x"),
        ("x/__main__.py train --weight_decay 0", "__main__.py train --weight_decay 0"),
        ("repfold train digits --api-key s3cret x --lr 1", f"repfold train digits --api-key {HIDDEN} {HIDDEN} --lr 1"),
        ("repfold train --token=s3cret", f"repfold train --token={HIDDEN}"),
        ("repfold train https://me:s3cret@host/set?key=s3cret", f"repfold train https://{HIDDEN}@host/set?{HIDDEN}"),
        ("repfold train --data=s3://s3cret@bucket/a@b", f"repfold train --data=s3://{HIDDEN}@b"),
        ("mine.py s3cret --pass s3cret --token=s3cret", f"mine.py {HIDDEN} --pass {HIDDEN} --token={HIDDEN}"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_command_line_is_kept_without_secrets(given, kept):
    told = privacy.command(given.split(" "))
    assert [word for word in told if "s3cret" in word] == []
    assert " ".join(told) == kept


def test_home_directories_are_written_as_tildes(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/srv/people/ann")
    content = {
        "data": "/srv/people/ann/photos",
        "skipped": ["/srv/people/ann", "/home/bob/x.png", "/srv/people/anna/x", "/Users/cy/y", "/data/home/bob/z"],
        "/srv/people/ann": [("--out=/srv/people/ann/runs", 3, None)],
    }
    assert privacy.without_homes(content) == {
        "data": "~/photos",
        "skipped": ["~", "~bob/x.png", "/srv/people/anna/x", "~cy/y", "/data/home/bob/z"],
        "~": [["--out=~/runs", 3, None]],
    }
    record.write_environment(tmp_path, {"data": "/srv/people/ann/photos"})
    assert json.loads((tmp_path / "environment.json").read_text())["data"] == "~/photos"
    assert "/srv/people/ann" not in (tmp_path / "environment.json").read_text()
