# SPDX-License-Identifier: GPL-2.0-only
"""Names for arguments of system calls that are not iommufd's: of mmap(2), open(2) and the like."""

from __future__ import annotations

import mmap
import os

_PROTECTION = {"PROT_READ": mmap.PROT_READ, "PROT_WRITE": mmap.PROT_WRITE}
_MAP = {
    "MAP_SHARED": mmap.MAP_SHARED,
    "MAP_PRIVATE": mmap.MAP_PRIVATE,
    "MAP_ANONYMOUS": mmap.MAP_ANONYMOUS,
    "MAP_FIXED": 0x10,
    "MAP_HUGETLB": 0x40000,
}
_OPEN = {
    "O_WRONLY": os.O_WRONLY,
    "O_RDWR": os.O_RDWR,
    "O_CREAT": os.O_CREAT,
    "O_TRUNC": os.O_TRUNC,
    "O_DIRECTORY": os.O_DIRECTORY,
    "O_CLOEXEC": os.O_CLOEXEC,
    "O_NONBLOCK": os.O_NONBLOCK,
}
_BITS = {
    "protection": (_PROTECTION, "PROT_NONE"),
    "map": (_MAP, "0"),
    "open": (_OPEN, "O_RDONLY"),
    "memfd": ({"MFD_CLOEXEC": 1, "MFD_ALLOW_SEALING": 2, "MFD_HUGETLB": 4}, "0"),
}

# What kind of argument a system call takes at a place.
ARGUMENTS = {
    ("mmap", 0): "pointer",
    ("mmap", 2): "protection",
    ("mmap", 3): "map",
    ("mprotect", 0): "pointer",
    ("mprotect", 2): "protection",
    ("munmap", 0): "pointer",
    ("madvise", 0): "pointer",
    ("mlock", 0): "pointer",
    ("munlock", 0): "pointer",
    ("read", 1): "pointer",
    ("write", 1): "pointer",
    ("openat", 2): "open",
    ("memfd_create", 1): "memfd",
}


def argument(kind: str, value: int) -> str:
    """Write an argument in C.

    Args:
        kind: one of those of ARGUMENTS.
        value: the number.
    """
    names, none = _BITS[kind]
    # of open's bits two are a number; none of them set is a name, too
    parts = ["O_RDONLY"] if kind == "open" and not value & os.O_ACCMODE else []
    for name, bit in names.items():
        if value & bit == bit:
            parts.append(name)
            value &= ~bit
    if value:
        parts.append(hex(value))
    return " | ".join(parts) or none
