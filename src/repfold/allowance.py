"""The cores and the memory that this process may use: those of the machine, as affinity and control groups limit them.

In a container, the machine has more than its guests get: who starts a thread for each of its cores is throttled, and
who takes its memory is killed. Linux tells the limits in files (cgroups(7)), in one hierarchy for all controllers in
version 2, in one for each in version 1; the limits of all groups above hold as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

_PROCESS = Path("/proc/self")


def cores(process: Path = _PROCESS) -> int:
    """The cores that this process can keep busy: those of its affinity, or of its groups' CPU quota when that is less.

    A quota of two cores and a half gives 3, since with 2 threads half a core would be lost.
    """
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder, version in _groups("cpu", process) if (quota := _QUOTA[version](folder)) is not None]
    return max(1, min([present, *(math.ceil(quota) for quota in quotas)]))


def memory(process: Path = _PROCESS) -> int:
    """Bytes that this process may hold: the machine's, or its groups' limit when that is less; 0 where unknown."""
    present = _machine_memory()
    limits = [
        int(text)
        for folder, version in _groups("memory", process)
        if (text := _read(folder / _MEMORY_LIMIT[version])).isdecimal()  # "max" is no limit
    ]
    return min([present, *limits]) if present else min(limits, default=0)


def free_memory(process: Path = _PROCESS) -> int:
    """Bytes that this process can still take without swapping: what is free of the machine's, or within its groups'
    limit when that is less; half of the machine's memory where the system does not say what is free."""
    left = [_free_of_machine()]
    for folder, version in _groups("memory", process):
        limit, usage = _read(folder / _MEMORY_LIMIT[version]), _read(folder / _MEMORY_USAGE[version])
        if limit.isdecimal() and usage.isdecimal():
            # Usage counts the cache of files read; what is inactive of it is given up on demand.
            left.append(int(limit) - int(usage) + _field(folder / "memory.stat", "inactive_file"))
    return max(0, min(left))


def _free_of_machine() -> int:
    return 1024 * _field(Path("/proc/meminfo"), "MemAvailable:") or _machine_memory() // 2 or 4 * 2**30


def _machine_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """None for "max" (version 2) and -1 (version 1), which are no limit."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


_QUOTA: dict[int, Callable[[Path], float | None]] = {1: _quota_v1, 2: _quota_v2}
_MEMORY_LIMIT = {1: "memory.limit_in_bytes", 2: "memory.max"}
_MEMORY_USAGE = {1: "memory.usage_in_bytes", 2: "memory.current"}


def _groups(controller: str, process: Path) -> Iterator[tuple[Path, int]]:
    """(folder, version) of each group that this process is in for the controller, up to the highest that it sees."""
    paths: dict[str, str] = {}  # "" for version 2
    for line in _read(process / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        paths |= dict.fromkeys(names.split(","), path)
    for root, mount, controllers in _mounts(process):
        name, version = ("", 2) if controllers is None else (controller, 1)
        if name not in paths or (controllers is not None and controller not in controllers):
            continue
        # A container may see its own group as the mount's root, or only the names that the host gives the groups.
        inside = os.path.relpath(paths[name], root)
        folder = mount if inside.startswith("..") else mount / inside
        while True:
            yield folder, version
            if folder == mount:
                break
            folder = folder.parent


def _mounts(process: Path) -> Iterator[tuple[str, Path, list[str] | None]]:
    """(root, mount point, options) of every mounted hierarchy (proc_pid_mountinfo(5)); options None for version 2."""
    for line in _read(process / "mountinfo").splitlines():
        fields, _, source = line.partition(" - ")
        kind, *_, options = source.split(" ")
        root, mount = fields.split(" ")[3:5]
        if kind in ("cgroup", "cgroup2"):
            yield root, Path(mount), options.split(",") if kind == "cgroup" else None


def _field(path: Path, name: str) -> int:
    """The number after ``name`` in a file of names and numbers; 0 where there is none."""
    found = (line.split() for line in _read(path).splitlines() if line.startswith(name))
    return next((int(words[1]) for words in found if words[0] == name and words[1].isdecimal()), 0)


def _read(path: Path) -> str:
    """The file's text; "" where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
