import csv
import json

import pytest

from repfold.cli import main


def write_run(directory, top1, seed):
    directory.mkdir()
    lines = [
        {"epoch": epoch, "lr": 0.1, "val_top1": score, "val_top5": 90.0} for epoch, score in enumerate(top1, start=1)
    ]
    (directory / "record.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (directory / "recipe.toml").write_text(f'model = "repvgg-a0"\nepochs = {len(top1)}\nseed = {seed}\n')
    return str(directory)


def test_the_page_of_one_run_goes_beside_its_record(tmp_path, capsys):
    run = write_run(tmp_path / "demo", [40.0, 70.5, 68.25], 0)
    main(["report", run])
    out = capsys.readouterr().out
    assert "70.50" in out and "68.25" in out and str(tmp_path / "demo" / "report.html") in out
    assert "repvgg-a0" in (tmp_path / "demo" / "report.html").read_text()


def test_json_is_one_object_and_nothing_else(tmp_path, capsys):
    runs = [write_run(tmp_path / f"s{seed}", [40.0, 60.0 + 2 * seed], seed) for seed in (0, 1)]
    main(["report", *runs, "-o", str(tmp_path / "both.html"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(tmp_path / "both.html") and (tmp_path / "both.html").exists()
    assert [run["best"]["val_top1"] for run in found["runs"]] == [60.0, 62.0]
    (arm,) = found["arms"]
    assert arm["n"] == 2
    assert arm["last"]["val_top1"] == {"mean": 61.0, "deviation": pytest.approx(2**0.5), "n": 2}
    assert arm["last"]["val_recall"] is None


def test_the_records_of_several_runs_become_one_table(tmp_path, capsys):
    runs = [write_run(tmp_path / name, [40.0, 60.5], seed) for seed, name in enumerate(("a", "b, c"))]
    with open(tmp_path / "b, c" / "record.jsonl", "a") as file:
        file.write('\n{"epoch": 3, "val_top1": NaN, "val_recall": 0.1, "strange": [1]}')
    main(["report", *runs, "-o", str(tmp_path / "page.html"), "--csv", str(tmp_path / "epochs.csv")])
    assert f"The records: {tmp_path / 'epochs.csv'}" in capsys.readouterr().out
    with open(tmp_path / "epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["epoch"]) for row in rows] == [
        *([("a", n) for n in "12"]),
        *([("b, c", n) for n in "123"]),
    ]
    assert [row["val_top1"] for row in rows] == ["40.0", "60.5", "40.0", "60.5", "nan"]
    assert [row["val_recall"] for row in rows] == ["", "", "", "", "0.1"] and rows[-1]["strange"] == ""
    assert rows[0]["lr"] == "0.1" and rows[-1]["lr"] == ""


def test_several_runs_go_where_the_user_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["report", write_run(tmp_path / "a", [1.0], 0), write_run(tmp_path / "b", [2.0], 1)])
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_bad_input_is_one_message_and_exit_code_2(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        main(["report", str(tmp_path / name)])
    captured = capsys.readouterr()
    assert caught.value.code == 2 and captured.out == ""
    assert name in captured.err and "Traceback" not in captured.err and len(captured.err.splitlines()) == 1
