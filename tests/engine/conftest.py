"""The engine's tests need the engine: where none is built they are skipped, with the reason that it gives."""

from __future__ import annotations

import pytest

from repfold import engine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = engine.available()
    for item in items:
        if reason is not None and "tests/engine" in item.path.as_posix() and "absent" not in item.name:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=["scalar", "avx2", "avx512"])
def kernels(request: pytest.FixtureRequest) -> str:
    """Each set of kernels that this CPU can run."""
    if request.param not in engine.cpu_kernels():
        pytest.skip(f"this CPU has no {request.param}")
    return request.param
