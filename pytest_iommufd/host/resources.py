# SPDX-License-Identifier: GPL-2.0-only
"""What this process may use of its machine: a container's limits count as much as the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
# Limit and use, as cgroups of version 2 and of version 1 call them.
_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
# A file's pages are given back when memory is wanted; version 1 counts those of inner groups apart.
_CACHED = (("active_file", "inactive_file"), ("total_active_file", "total_inactive_file"))
_JOB_BYTES = 256 << 20
_KIB = 1 << 10


def cpus() -> int:
    """How many CPUs this process may use.

    Returns:
        At least 1; a quota of one and a half is 2.
    """
    found = [len(os.sched_getaffinity(0))]
    for folder in _groups("cpu"):
        words = [
            word
            for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
            for word in _read(folder / name).split()
        ]
        # without a quota it is "max" or -1
        if len(words) == 2 and words[0].isdigit():
            found.append(math.ceil(int(words[0]) / int(words[1])))
    return max(1, min(found))


def memory() -> int:
    """How many bytes of memory this process may still take."""
    found = [_KIB * _table(_PROC / "meminfo").get("MemAvailable:", 0)]
    for folder in _groups("memory"):
        for (limit, use), cached in zip(_MEMORY, _CACHED, strict=True):
            most, now = _read(folder / limit).strip(), _read(folder / use).strip()
            if most.isdigit() and now:
                table = _table(folder / "memory.stat")
                found.append(int(most) - int(now) + sum(table.get(name, 0) for name in cached))
    return max(0, min(found))


def jobs() -> int:
    """How many compilers may run at once."""
    return max(1, min(cpus(), memory() // _JOB_BYTES))


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, in whichever container."""
    return _table(_PROC / "vmstat").get("oom_kill", 0)


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups that this process is in; a container may see only the outermost."""
    for line in _read(_PROC / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            top = _CGROUPS / controller if controllers else _CGROUPS
            below = Path(path.lstrip("/"))
            yield from (top / part for part in (below, *below.parents))


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _read(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if row[1:] and row[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
