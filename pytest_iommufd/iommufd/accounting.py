# SPDX-License-Identifier: GPL-2.0-only
"""What a process may pin and what it has pinned: capabilities, limits, counts."""

from __future__ import annotations

import re
import resource
import struct
from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.context import Context

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.file import IoctlFile
    from pytest_iommufd.machine import Process

CAP_IPC_LOCK = 14
CAP_SYS_RESOURCE = 24
_CAPABILITY_VERSION = 0x2008_0522
_SETS = struct.Struct("<6I")  # effective, permitted, inheritable; then those of above bit 31


def drop_capability(process: Process, number: int) -> None:
    """Have a process give up a capability below 32 (capabilities(7)) for good."""
    at = process.arena
    process.write(at, struct.pack("<Ii", _CAPABILITY_VERSION, 0))
    process.checked("capget", at, at + 8)
    effective, permitted, *others = _SETS.unpack(process.read(at + 8, _SETS.size))
    kept = ~(1 << number)
    process.write(at + 8, _SETS.pack(effective & kept, permitted & kept, *others))
    process.checked("capset", at, at + 8)


def limit_memlock(process: Process, pages: int) -> None:
    """Limit how many pages a process may lock (RLIMIT_MEMLOCK)."""
    size = pages * process.hello.page_size
    process.write(process.arena, struct.pack("<QQ", size, size))
    process.checked("prlimit64", 0, resource.RLIMIT_MEMLOCK, process.arena, 0)


def counted(process: Process, name: str) -> int:
    """Return what /proc/PID/status says of a process, in pages; name is "VmPin" or "VmLck"."""
    status = process.read_file("/proc/self/status", 4096).decode()
    found = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    if not found:
        raise KeyError(name)
    return int(found[1]) * 1024 // process.hello.page_size


def as_seen_by(context: IoctlFile, process: Process) -> Context:
    """Return a context that a fork of its process has open, too."""
    made = Context.__new__(Context)
    made.__dict__ |= context.__dict__ | {"process": process}
    return made
