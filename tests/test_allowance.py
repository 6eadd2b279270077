"""Cores and memory, as control groups of both versions limit them; a container may see its groups in several ways."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repfold import allowance

MIB = 1 << 20


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /proc/self on a machine of 8 cores and 16 GiB."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(allowance, "_machine_memory", lambda: 16384 * MIB)
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


def groups(process: Path, cgroup: str, *mounts: tuple[str, str, str]) -> Path:
    """Write the process's groups and the mounts (root, folder, what follows the dash); returns where these lie."""
    (process / "cgroup").write_text(cgroup)
    lines = [
        f"3{number} 31 0:{number} {root} {process.parent / folder} rw,nosuid shared:9 - {kind}\n"
        for number, (root, folder, kind) in enumerate(mounts)
    ]
    (process / "mountinfo").write_text("22 1 8:1 / / rw - ext4 /dev/root rw\n" + "".join(lines))
    return process.parent


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_control_groups_the_machine_counts(process: Path) -> None:
    assert (allowance.cores(process), allowance.memory(process)) == (8, 16384 * MIB)


def test_version_2(process: Path) -> None:
    root = groups(process, "0::/app/web\n", ("/", "cgroup", "cgroup2 cgroup2 rw"))
    write(root / "cgroup/app/web", cpu__max="max 100000", memory__max="max")
    assert (allowance.cores(process), allowance.memory(process)) == (8, 16384 * MIB)
    write(root / "cgroup/app/web", cpu__max="300000 100000", memory__max=512 * MIB)
    assert (allowance.cores(process), allowance.memory(process)) == (3, 512 * MIB)


def test_the_limits_of_groups_above_hold_as_well(process: Path) -> None:
    root = groups(process, "0::/app/web\n", ("/", "cgroup", "cgroup2 cgroup2 rw"))
    write(root / "cgroup/app/web", cpu__max="600000 100000", memory__max="max")
    write(root / "cgroup/app", cpu__max="200000 100000", memory__max=256 * MIB)
    assert (allowance.cores(process), allowance.memory(process)) == (2, 256 * MIB)


V1 = "5:memory:/docker/abc\n4:cpuacct,cpu:/docker/abc\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize("root", ["/", "/docker/abc", "/docker/of-another-name"])
def test_version_1_whatever_the_container_sees(process: Path, root: str) -> None:
    """The mount's root is the host's; or this group; or one that the process's path does not lie in."""
    folder = groups(
        process, V1, (root, "cpu", "cgroup cgroup rw,cpu,cpuacct"), (root, "memory", "cgroup cgroup rw,memory")
    )
    inside = "docker/abc" if root == "/" else ""
    write(folder / "cpu" / inside, cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    write(folder / "memory" / inside, memory__limit_in_bytes=9223372036854771712)
    assert (allowance.cores(process), allowance.memory(process)) == (8, 16384 * MIB)
    write(folder / "cpu" / inside, cpu__cfs_quota_us=250000)
    write(folder / "memory" / inside, memory__limit_in_bytes=100 * MIB)
    assert (allowance.cores(process), allowance.memory(process)) == (3, 100 * MIB)


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_is_what_the_groups_leave(process: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "_free_of_machine", lambda: 10_000)
    assert allowance.free_memory(process) == 10_000
    line, kind = ("0::/app\n", "cgroup2 cgroup2 rw") if version == 2 else ("5:memory:/app\n", "cgroup cgroup rw,memory")
    folder = groups(process, line, ("/", "cgroup", kind)) / "cgroup/app"
    limit, usage = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    write(folder, memory__stat="anon 5\ninactive_file 300", **{f"memory__{limit}": "max", f"memory__{usage}": 1000})
    assert allowance.free_memory(process) == 10_000
    for most, left in ((5000, 4300), (900, 200), (500, 0)):
        write(folder, **{f"memory__{limit}": most})
        assert allowance.free_memory(process) == left
    write(folder.parent, **{f"memory__{limit}": 2000, f"memory__{usage}": 1900})
    write(folder, **{f"memory__{limit}": 5000})
    assert allowance.free_memory(process) == 100


def test_the_machine_says_what_is_free() -> None:
    assert 0 < allowance.free_memory() <= allowance.memory()


def test_less_than_one_core_is_one(process: Path) -> None:
    root = groups(process, "0::/\n", ("/", "cgroup", "cgroup2 cgroup2 rw"))
    write(root / "cgroup", cpu__max="5000 100000")
    assert allowance.cores(process) == 1


def test_affinity_counts_when_it_is_less(process: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = groups(process, "0::/\n", ("/", "cgroup", "cgroup2 cgroup2 rw"))
    write(root / "cgroup", cpu__max="400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert allowance.cores(process) == 1


@pytest.mark.parametrize("text", ["", "nonsense", "100000 0", "-5 100000"])
def test_what_cannot_be_read_is_no_limit(process: Path, text: str) -> None:
    root = groups(process, "0::/\n", ("/", "cgroup", "cgroup2 cgroup2 rw"))
    write(root / "cgroup", cpu__max=text, memory__max=text)
    assert (allowance.cores(process), allowance.memory(process)) == (8, 16384 * MIB)
