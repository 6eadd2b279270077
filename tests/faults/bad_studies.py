"""What can be wrong with the file of a study, and with the directory that it is run in."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.case import SOUND, Case, short, writes
from tests.faults.sound import STUDY


def studies() -> Iterator[Case]:
    """The file of a study with each of its keys gone, of another kind, or misspelt, and with parts that do not fit."""
    for line in STUDY.splitlines():
        key, equals, _ = line.partition(" = ")
        values = ["nan", "[]", "{}", "-1", "true", '""', '"\\u0000"', "[[1]]", "9" * 400, '"🦜"'] if equals else []
        texts = {
            f"without {line}": STUDY.replace(line, "", 1),
            f"twice {line}": STUDY.replace(line, f"{line}\n{line}", 1),
        }
        texts |= {f"{key} = {value[:9]}": STUDY.replace(line, f"{key} = {value}", 1) for value in values}
        texts |= {f"misspelt {key}": STUDY.replace(line, f"{key}x = 1", 1)} if equals else {}
        for name, text in texts.items():
            yield Case(f"study {name}", ("study", *SOUND["study"]), writes("study.toml", text))
    for more in (
        "[axes]\nlr = []\n",
        "[axes]\nlr = [0.1, 0.1]\n",
        "[axes]\nepoch = [1]\n",
        "[axes]\nlr = 1\n",
        "[arms.half2]\nwarmup = '50%'\n",
        "[before.x]\nlr = -1\n",
        "[scales.tiny]\n",
        "[scales.small]\nseeds = []\n",
        "[[published]]\narm = 'none'\n",
        "[claims]\nother = 'x'\n",
        "[arms.own]\nmodel = 'os:system'\n",
    ):
        yield Case(f"study with {short(more)}", ("study", *SOUND["study"]), writes("study.toml", STUDY + more))
    for value in ("0", "-1", "1.5", "'two'", "9" * 30, "[2]"):
        text = f"processes = {value}\n{STUDY}"
        yield Case(f"study of {value[:9]} processes", ("study", *SOUND["study"]), writes("study.toml", text))
    for verb in (
        ("run", "study.toml", "--jobs", "-1"),
        ("run", "study.toml", "--hours", "nan"),
        ("show", "x"),
        ("lst",),
    ):
        yield Case(f"study {' '.join(verb)}", ("study", *verb))
    for other in ("{}", "[]", '{"name": "another"}', '{"name": 3, "trials": null}', "nonsense"):
        yield Case(f"study in {short(other)}", ("study", *SOUND["study"]), writes("out/study.json", other))
        yield Case(f"study of {short(other)}", ("study", "report", "out"), writes("out/study.json", other))
