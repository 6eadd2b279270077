import json
import math
import os

import pytest
from tests.report.run_files import write_run

from repfold.errors import RepFoldError
from repfold.report.page import write
from repfold.report.records import read_runs


def read(directory):
    return read_runs([directory])[0]


def test_a_whole_run_is_read_without_a_note(tmp_path):
    run = read(write_run(tmp_path / "demo", epochs=4))
    lines = [json.loads(line) for line in (tmp_path / "demo" / "record.jsonl").read_text().splitlines()]
    assert run.name == "demo" and run.notes == ()
    assert list(run.epochs) == lines
    assert run.recipe["model"] == "repvgg-a0" and run.planned == 4
    assert run.column("val_top1") == tuple(line["val_top1"] for line in lines)
    assert run.best["val_top1"] == max(line["val_top1"] for line in lines)
    assert run.last == lines[-1]
    assert ("recipe.toml", (tmp_path / "demo" / "recipe.toml").stat().st_size) in run.files


def test_a_line_torn_by_a_crash_is_skipped_and_said(tmp_path):
    run_directory = write_run(tmp_path / "run", epochs=6, recorded=3)
    with open(run_directory / "record.jsonl", "ab") as file:
        file.write(b'{"epoch": 4, "val_top1": 41.\xff\x00')
    run = read(run_directory)
    assert [record["epoch"] for record in run.epochs] == [1, 2, 3]
    assert any("1 damaged line of record.jsonl skipped (of 4: 4)" in note for note in run.notes)
    assert any("3 of 6 epochs" in note for note in run.notes)


@pytest.mark.parametrize("line", ["[1, 2]", '{"val_top1": 3}', '{"epoch": "two"}', '{"epoch": true}', "[" * 100_000])
def test_a_line_that_is_no_epoch_is_skipped(tmp_path, line):
    run_directory = write_run(tmp_path / "run", epochs=2)
    with open(run_directory / "record.jsonl", "a") as file:
        file.write(line + "\n")
    run = read(run_directory)
    assert len(run.epochs) == 2 and len(run.notes) == 1


def test_an_epoch_told_twice_counts_once_the_later_time(tmp_path):
    run_directory = write_run(tmp_path / "run", epochs=3)
    with open(run_directory / "record.jsonl", "a") as file:
        file.write('\n{"epoch": 2, "val_top1": 99.5}\n\n')
    run = read(run_directory)
    assert [record["epoch"] for record in run.epochs] == [1, 2, 3]
    assert run.best["epoch"] == 2 and run.best["val_top1"] == 99.5
    assert any("more than once" in note for note in run.notes)


def test_the_best_epoch_is_the_earliest_of_equals_and_never_nan(tmp_path):
    run_directory = write_run(tmp_path / "run", epochs=4)
    scores = (math.nan, 50.0, 50.0, None)
    lines = [json.dumps({"epoch": epoch, "val_top1": score}) for epoch, score in enumerate(scores, start=1)]
    (run_directory / "record.jsonl").write_text("\n".join(lines))
    run = read(run_directory)
    assert run.best["epoch"] == 2
    assert any("not finite" in note and "epoch 1" in note for note in run.notes)


def test_without_any_score_the_last_epoch_is_the_best(tmp_path):
    run_directory = write_run(tmp_path / "run", epochs=1)
    (run_directory / "record.jsonl").write_text('{"epoch": 1}\n{"epoch": 2, "val_top1": NaN}\n')
    assert read(run_directory).best["epoch"] == 2


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("recipe.toml", 'model = "repvgg'),
        ("recipe.toml", b"\xff\xfe"),
        ("environment.json", "[1, 2]"),
        ("certificate.json", '{"error": 1e-7, "regi'),
        ("confusion.json", '{"classes": ["a", "b"]}'),
        ("confusion.json", '{"classes": ["a", "b"], "matrix_TP": [[1, 2]]}'),
        ("confusion.json", '{"classes": ["a", "b"], "matrix_TP": [[1, 2], [3]]}'),
        ("confusion.json", '{"classes": ["a"], "matrix_TP": [[-1]]}'),
        ("confusion.json", '{"classes": [], "matrix_TP": []}'),
        ("timings.json", '{"rows": []}'),
        ("timings.json", '{"rows": [{"form": "folded", "batch": 1}]}'),
        ("timings.json", '{"rows": [{"form": "f", "batch": 1, "median_ms": 0, "low_ms": 1, "high_ms": 1, "n": 3}]}'),
        ("timings.json", '"none"'),
        (
            "timings.json",
            '{"rows": [{"form": "f", "batch": 1e999, "median_ms": 1, "low_ms": 1, "high_ms": 1, "n": 3}]}',
        ),
        ("recipe.toml", "a" + ".a" * 20_000 + " = 1"),
        ("recipe.toml", "a = " + "[" * 20_000),
        ("recipe.toml", "a = 0x" + "f" * 20_000),
    ],
)
def test_a_damaged_file_is_left_out_and_said(tmp_path, file, content):
    run_directory = write_run(tmp_path / "run", epochs=2)
    (run_directory / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    run = read(run_directory)
    assert len(run.notes) == 1 and run.notes[0].startswith(file)
    assert len(run.epochs) == 2


@pytest.mark.parametrize("key", ["regions", "left", "error", "dtype", "sizes"])
@pytest.mark.parametrize("value", [7, None, "x", [1, [2]], {"a": 1}])
def test_a_certificate_of_wrong_kinds_is_still_reported(tmp_path, key, value):
    run_directory = write_run(tmp_path / "run", epochs=1)
    certificate = json.loads((run_directory / "certificate.json").read_text())
    (run_directory / "certificate.json").write_text(json.dumps({**certificate, key: value}))
    assert "Certificate of the fold" in write([run_directory], tmp_path / "page.html").read_text()


def test_a_pipe_in_a_run_is_not_waited_for_and_a_name_that_is_no_text_is_written(tmp_path):
    run_directory = write_run(tmp_path / "run", epochs=1, classes=("caf\udce9", "tea"), without=("timings.json",))
    os.mkfifo(run_directory / "timings.json")
    assert "timings.json cannot be read (it is a pipe" in write([run_directory], tmp_path / "page.html").read_text()


def test_files_that_are_not_there_are_no_fault(tmp_path):
    absent = ("environment.json", "certificate.json", "confusion.json", "timings.json")
    run = read(write_run(tmp_path / "run", epochs=2, without=absent))
    assert run.notes == ()
    assert run.certificate is run.confusion is run.timings is None


def test_names_are_the_shortest_ends_of_the_paths_that_differ(tmp_path):
    paths = [write_run(tmp_path / arm / "seed-0", epochs=1) for arm in ("cosine", "warmup")]
    assert [run.name for run in read_runs(paths)] == ["cosine/seed-0", "warmup/seed-0"]
    assert [run.name for run in read_runs([paths[0], paths[0] / ".." / "seed-0"])] == ["seed-0"]


def test_bad_directories_are_told_what_to_do(tmp_path):
    write_run(tmp_path / "runs" / "demo", epochs=1)
    (tmp_path / "file").write_text("")
    empty = write_run(tmp_path / "empty", epochs=1)
    (empty / "record.jsonl").write_text("\n")
    torn = write_run(tmp_path / "torn", epochs=1)
    (torn / "record.jsonl").write_text('{"epo')
    for path, words in (
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "no record.jsonl"),
        (tmp_path / "runs", "give demo inside it"),
        (empty, "it is empty"),
        (torn, "every line of it is damaged"),
    ):
        with pytest.raises(RepFoldError, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
    with pytest.raises(RepFoldError, match="at least one"):
        read_runs([])
