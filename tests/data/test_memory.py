"""The cache's budget: what is free, within the container's limit, shared by the processes of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from repfold.data import memory


def test_the_budget_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert memory.cache_budget(0.4) == 400
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.cache_budget(0.4) == 100


def test_a_containers_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path, "memory.max", "memory.current"),))
    machine = memory.available_bytes()
    assert machine > 0
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\n")
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 10_000
    (tmp_path / "memory.max").write_text("5000\n")
    assert memory.available_bytes() == 4300
    (tmp_path / "memory.max").write_text("900\n")
    assert memory.available_bytes() == 200
    (tmp_path / "memory.max").write_text("500\n")
    assert memory.available_bytes() == 0
