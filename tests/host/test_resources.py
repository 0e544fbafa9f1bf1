# SPDX-License-Identifier: GPL-2.0-only
"""What a container's limits leave of a machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.host import resources

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
MACHINE = {
    "proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 8388608 kB\n",
    "proc/self/cgroup": "4:memory:/docker/x\n1:cpu,cpuacct:/docker/x\n0::/\n",
}
V2 = {
    "proc/self/cgroup": "0::/\n",
    "sys/cpu.max": "150000 100000\n",
    "sys/memory.max": f"{700 * MIB}\n",
    "sys/memory.current": f"{600 * MIB}\n",
    "sys/memory.stat": f"anon 5\nactive_file {100 * MIB}\ninactive_file {400 * MIB}\n",
}
# what a container sees where cgroups have no name space: a path that is not there
V1 = {
    "sys/cpu/cpu.cfs_quota_us": "300000\n",
    "sys/cpu/cpu.cfs_period_us": "100000\n",
    "sys/memory/memory.limit_in_bytes": f"{400 * MIB}\n",
    "sys/memory/memory.usage_in_bytes": f"{300 * MIB}\n",
    "sys/memory/memory.stat": f"active_file 0\ntotal_active_file {MIB}\ntotal_inactive_file 0\n",
}
OUTER = {
    "proc/self/cgroup": "0::/user/run\n",
    "sys/user/run/cpu.max": "max 100000\n",
    "sys/user/run/memory.max": "max\n",
    "sys/user/run/memory.current": "1\n",
    "sys/user/cpu.max": "50000 100000\n",
    "sys/user/memory.max": f"{2 * MIB}\n",
    "sys/user/memory.current": f"{3 * MIB}\n",
}
UNLIMITED = {
    "sys/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/cpu/cpu.cfs_period_us": "100000\n",
    "sys/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/memory/memory.usage_in_bytes": "1\n",
}


@pytest.mark.parametrize(
    ("files", "cpus", "memory", "jobs"),
    [
        ({}, 8, 8192, 8),
        (UNLIMITED, 8, 8192, 8),
        (V1, 3, 101, 1),
        (V2, 2, 600, 2),
        (OUTER, 1, 0, 1),
    ],
    ids=["no limit", "unlimited", "version 1", "version 2", "an outer group"],
)
def test_limits_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    cpus: int,
    memory: int,
    jobs: int,
) -> None:
    for name, content in (MACHINE | files).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(resources, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path / "sys")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert resources.cpus() == cpus
    assert resources.memory() // MIB == memory
    assert resources.jobs() == jobs
