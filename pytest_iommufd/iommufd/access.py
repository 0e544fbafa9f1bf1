# SPDX-License-Identifier: GPL-2.0-only
"""Accesses of the kernel's iommufd_test: memory of an IOAS as a driver without an IOMMU has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu


class Access:
    """An access, known by its file descriptor. Where a field wants that, it may be given.

    Attributes:
        context: where it lives.
        fd: the file descriptor in the process, -1 when closed.
    """

    def __init__(self, context: DevIommu, fd: int) -> None:
        self.context = context
        self.fd = fd

    def __index__(self) -> int:
        return self.fd

    def __repr__(self) -> str:
        return f"<Access fd {self.fd}>"

    def pin(
        self,
        iova: int,
        length: int,
        memory: SupportsIndex = 0,
        *,
        write: bool = False,
        **fields: Any,
    ) -> int:
        """ACCESS_PAGES: pin what is mapped at an IOVA.

        Args:
            iova: where.
            length: bytes.
            memory: where the process has those pages, which the kernel compares; 0 for not.
            write: whether they are to be written to.
            fields: any field of access_pages.

        Returns:
            The number that unpin() wants.
        """
        __tracebackhide__ = True
        flags = self.context.uapi.MOCK_FLAGS_ACCESS_WRITE if write else 0
        given: dict[str, Any] = {"flags": flags, "iova": iova, "length": length}
        given |= {"uptr": memory} | fields
        made = self.context.test("access_pages", self, access_pages=given)
        return made.access_pages.out_access_pages_id  # type: ignore[no-any-return]

    def unpin(self, item: int) -> None:
        """DESTROY_ACCESS_PAGES: unpin what pin() has pinned."""
        __tracebackhide__ = True
        self.context.test(
            "destroy_access_pages", self, destroy_access_pages={"access_pages_id": item}
        )

    def rw(self, iova: int, length: int, uptr: int, flags: int = 0) -> None:
        """ACCESS_RW between what is mapped at an IOVA and memory of the process."""
        __tracebackhide__ = True
        given = {"iova": iova, "length": length, "uptr": uptr, "flags": flags}
        self.context.test("access_rw", self, access_rw=given)

    def read(self, iova: int, length: int, flags: int = 0) -> bytes:
        """Return bytes at an IOVA (ACCESS_RW)."""
        __tracebackhide__ = True
        at = self.context.put(bytes(length))
        self.rw(iova, length, at, flags)
        return self.context.process.read(at, length)

    def write(self, iova: int, data: bytes, flags: int = 0) -> None:
        """Write bytes to an IOVA (ACCESS_RW)."""
        __tracebackhide__ = True
        write = self.context.uapi.MOCK_ACCESS_RW_WRITE
        self.rw(iova, len(data), self.context.put(data), flags | write)

    def replace(self, ioas: SupportsIndex) -> None:
        """ACCESS_REPLACE_IOAS: let go of its IOAS, and use another."""
        __tracebackhide__ = True
        self.context.test("access_replace_ioas", self, access_replace_ioas={"ioas_id": ioas})

    def close(self) -> None:
        """Close the file descriptor, which unpins what is pinned and ends the access."""
        if self.fd >= 0:
            self.context.process.syscall("close", self.fd)
            self.fd = -1
