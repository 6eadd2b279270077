"""What leaves for a file: lines as they are, tables no wider than people read."""

from __future__ import annotations

from rich.table import Table

from repfold.cli.console import Console


def test_a_table_in_a_file_folds_its_long_cells_and_lines_stay_whole(capsys):
    console = Console()
    table = Table("stage", "result", box=None)
    table.add_row("fold", "7 regions folded")
    table.add_row("ONNX", "not exported: " + "because " * 40)
    console.print(table)
    console.print("a line " * 40)
    *rows, line = (text.rstrip() for text in capsys.readouterr().out.splitlines())
    assert max(map(len, rows)) <= 120 and "\n".join(rows).count("because") == 40
    assert sum("7 regions folded" in row for row in rows) == 1 and len(line) == 279
