# SPDX-License-Identifier: GPL-2.0-only
"""Names for arguments of system calls that are not iommufd's: of mmap(2), open(2) and the like."""

from __future__ import annotations

import mmap
import os

_PROTECTION = {"PROT_READ": mmap.PROT_READ, "PROT_WRITE": mmap.PROT_WRITE}
_MAP = {"MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_FIXED": 0x10, "MAP_ANONYMOUS": 0x20}
_OPEN = ("WRONLY", "RDWR", "CREAT", "TRUNC", "DIRECTORY", "CLOEXEC", "NONBLOCK")
# The names of bits that a system call takes at a place, and of none of them.
_BITS = {
    ("mmap", 2): (_PROTECTION, "PROT_NONE"),
    ("mprotect", 2): (_PROTECTION, "PROT_NONE"),
    ("mmap", 3): (_MAP | {"MAP_HUGETLB": 0x40000}, "0"),
    ("openat", 2): ({f"O_{name}": getattr(os, f"O_{name}") for name in _OPEN}, "O_RDONLY"),
    ("memfd_create", 1): ({"MFD_CLOEXEC": 1, "MFD_ALLOW_SEALING": 2, "MFD_HUGETLB": 4}, "0"),
}
# Where system calls take a pointer.
POINTERS = {"ioctl": 2, "read": 1, "write": 1} | dict.fromkeys(
    ("madvise", "mlock", "mmap", "mprotect", "munlock", "munmap"), 0
)


def argument(call: str, at: int, value: int) -> str:
    """Write an argument of a system call in C; "" when its bits have no names."""
    if (call, at) not in _BITS:
        return ""
    names, none = _BITS[call, at]
    # of open's bits two are a number; none of them set is a name, too
    parts = [none] if call == "openat" and not value & os.O_ACCMODE else []
    for name, bit in names.items():
        if value & bit == bit:
            parts.append(name)
            value &= ~bit
    return " | ".join([*parts, hex(value)] if value else parts) or none
