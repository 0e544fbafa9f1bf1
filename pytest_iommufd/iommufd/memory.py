# SPDX-License-Identifier: GPL-2.0-only
"""Memory of the process under test."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process

MAP_HUGETLB = 0x40000
MAP_FIXED = 0x10
MFD_HUGETLB = 0x4
HUGE_PAGE_SIZE = 2 << 20
_HUGE_PAGES = f"/sys/kernel/mm/hugepages/hugepages-{HUGE_PAGE_SIZE >> 10}kB/nr_hugepages"


class Buffer:
    """Mapped memory in a process; where a field wants an address, it may be given.

    Attributes:
        process: whose memory it is.
        address: its first byte.
        size: bytes.
        fd: the memfd behind it, -1 when there is none.
    """

    def __init__(self, process: Process, address: int, size: int, fd: int = -1) -> None:
        self.process = process
        self.address = address
        self.size = size
        self.fd = fd

    def __index__(self) -> int:
        return self.address

    def __repr__(self) -> str:
        return f"<Buffer {self.address:#x}..{self.address + self.size - 1:#x}>"

    @property
    def end(self) -> int:
        """The address of the byte after it."""
        return self.address + self.size

    @classmethod
    def anonymous(cls, process: Process, size: int, *, huge: bool = False, at: int = 0) -> Buffer:
        """Map shared anonymous memory.

        Args:
            process: in which.
            size: bytes, a multiple of the page size.
            huge: of huge pages of 2 MiB; the guest keeps a few.
            at: a fixed address, or 0.

        Raises:
            OSError: it cannot be mapped; ENOMEM when no huge page is left.
        """
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS
        if huge:
            flags |= MAP_HUGETLB
        if at:
            flags |= MAP_FIXED
        address = process.checked("mmap", at, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
        return cls(process, address, size)

    @classmethod
    def memfd(cls, process: Process, size: int, *, huge: bool = False) -> Buffer:
        """Map a new memfd; the arguments and errors are those of anonymous()."""
        name = process.arena
        process.write(name, b"buffer\0")
        fd = process.checked("memfd_create", name, MFD_HUGETLB if huge else 0)
        process.checked("ftruncate", fd, size)
        address = process.checked(
            "mmap", 0, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0
        )
        return cls(process, address, size, fd)

    def write(self, data: bytes, offset: int = 0) -> int:
        """Write bytes at an offset; returns their address."""
        self.process.write(self.address + offset, data)
        return self.address + offset

    def read(self, size: int, offset: int = 0) -> bytes:
        """Return bytes at an offset."""
        return self.process.read(self.address + offset, size)

    def protect(self, protection: int, offset: int = 0, size: int | None = None) -> None:
        """Change the protection of the whole or of a part (mprotect)."""
        length = self.size - offset if size is None else size
        self.process.checked("mprotect", self.address + offset, length, protection)

    def unmap(self, offset: int = 0, size: int | None = None) -> None:
        """Unmap the whole or a part (munmap)."""
        self.process.checked(
            "munmap", self.address + offset, self.size - offset if size is None else size
        )


def why_no_huge_pages(process: Process, count: int) -> str:
    """Say why a process cannot map huge pages, whether others are in use or not.

    Args:
        process: which would map them.
        count: how many of them.

    Returns:
        The reason, "" where the machine keeps that many for all its processes.
    """
    try:
        kept = int(process.read_file(_HUGE_PAGES))
    except FileNotFoundError:
        return "the kernel has no huge pages of 2 MiB: CONFIG_HUGETLBFS=y brings them"
    if kept < count:
        return f"the machine keeps {kept} huge pages: echo 8 > {_HUGE_PAGES} keeps enough"
    return ""
