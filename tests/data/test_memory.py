"""The cache's budget: what is free, shared by the processes of the machine."""

from __future__ import annotations

import pytest

from repfold.data import memory


def test_the_budget_is_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert memory.cache_budget(0.4) == 400
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory.cache_budget(0.4) == 100
