# SPDX-License-Identifier: GPL-2.0-only
"""I/O address spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.iommufd.access import Access
from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.memory import Buffer

# IOMMU_IOAS_MAP_*: FIXED_IOVA, WRITEABLE, READABLE; and the last two, for an IOVA that is chosen.
FIXED_RW = 7
AUTOMATIC_RW = 6
# bytes of a struct iommu_iova_range
_RANGE_SIZE = 16


class Ioas(IommufdObject):
    """An I/O address space: a map from IOVA to the process's memory."""

    def map(
        self,
        source: Buffer | int,
        length: int | None = None,
        *,
        iova: int | None = None,
        **fields: Any,
    ) -> int:
        """IOMMU_IOAS_MAP memory, readable and writeable unless `flags` is given.

        Args:
            source: a buffer, or an address in the process.
            length: bytes; by default the whole buffer.
            iova: where; by default the kernel chooses.
            fields: any field.

        Returns:
            The IOVA.
        """
        __tracebackhide__ = True
        if length is None:
            length = 0 if isinstance(source, int) else source.size
        given = self._placed(iova) | {
            "ioas_id": self,
            "user_va": source,
            "length": length,
        }
        return self.context.ioctl("IOMMU_IOAS_MAP", **(given | fields)).iova  # type: ignore[no-any-return]

    def map_file(
        self, fd: int, length: int, *, start: int = 0, iova: int | None = None, **fields: Any
    ) -> int:
        """IOMMU_IOAS_MAP_FILE bytes of a file from `start` on; else as map()."""
        __tracebackhide__ = True
        given = self._placed(iova) | {"ioas_id": self, "fd": fd, "start": start}
        given["length"] = length
        return self.context.ioctl("IOMMU_IOAS_MAP_FILE", **(given | fields)).iova  # type: ignore[no-any-return]

    def copy(
        self,
        source: SupportsIndex,
        source_iova: int,
        length: int,
        *,
        iova: int | None = None,
        **fields: Any,
    ) -> int:
        """IOMMU_IOAS_COPY what another IOAS, or this one, has mapped, to here.

        Args:
            source: that IOAS.
            source_iova: where it has it.
            length: bytes.
            iova: where to map it; by default the kernel chooses.
            fields: any field.

        Returns:
            The IOVA.
        """
        __tracebackhide__ = True
        given = self._placed(iova) | {"dst_ioas_id": self, "src_ioas_id": source}
        given |= {"length": length, "src_iova": source_iova, "dst_iova": given.pop("iova")}
        return self.context.ioctl("IOMMU_IOAS_COPY", **(given | fields)).dst_iova  # type: ignore[no-any-return]

    def unmap(self, iova: int, length: int, **fields: Any) -> int:
        """IOMMU_IOAS_UNMAP a range in bytes; returns how many bytes were unmapped."""
        __tracebackhide__ = True
        given: dict[str, Any] = {"ioas_id": self, "iova": iova, "length": length}
        return int(self.context.ioctl("IOMMU_IOAS_UNMAP", **(given | fields)).length)

    def unmap_all(self) -> int:
        """IOMMU_IOAS_UNMAP all there is; returns how many bytes that was."""
        __tracebackhide__ = True
        return self.unmap(0, (1 << 64) - 1)

    def allow_iovas(self, *ranges: tuple[int, int], **fields: Any) -> None:
        """IOMMU_IOAS_ALLOW_IOVAS: automatic allocation stays within these (first, last)."""
        __tracebackhide__ = True
        uapi = self.context.uapi
        array = b"".join(
            bytes(uapi.struct("iommu_iova_range", start=first, last=last)) for first, last in ranges
        )
        given: dict[str, Any] = {
            "ioas_id": self,
            "num_iovas": len(ranges),
            "allowed_iovas": array or 0,
        }
        self.context.ioctl("IOMMU_IOAS_ALLOW_IOVAS", **(given | fields))

    def iova_ranges(self, room: int = 8) -> list[tuple[int, int]]:
        """IOMMU_IOAS_IOVA_RANGES: where something can be mapped, as (first, last).

        Args:
            room: how many ranges the array has room for.
        """
        __tracebackhide__ = True
        at = self.context.put(bytes(room * _RANGE_SIZE))
        made = self.context.ioctl(
            "IOMMU_IOAS_IOVA_RANGES", ioas_id=self, num_iovas=room, allowed_iovas=at
        )
        array = self.context.process.read(at, room * _RANGE_SIZE)
        numbers = [int.from_bytes(array[at : at + 8], "little") for at in range(0, len(array), 8)]
        return list(zip(numbers[::2], numbers[1::2], strict=True))[: made.num_iovas]

    def alignment(self) -> int:
        """IOMMU_IOAS_IOVA_RANGES: what IOVAs and lengths must be multiples of."""
        __tracebackhide__ = True
        at = self.context.put(bytes(8 * _RANGE_SIZE))
        made = self.context.ioctl(
            "IOMMU_IOAS_IOVA_RANGES", ioas_id=self, num_iovas=8, allowed_iovas=at
        )
        return int(made.out_iova_alignment)

    def huge_pages(self, value: int | None = None, **fields: Any) -> int:
        """IOMMU_OPTION_HUGE_PAGES: set it, or get it."""
        __tracebackhide__ = True
        uapi = self.context.uapi
        given: dict[str, Any] = {
            "option_id": uapi.IOMMU_OPTION_HUGE_PAGES,
            "op": uapi.IOMMU_OPTION_OP_GET if value is None else uapi.IOMMU_OPTION_OP_SET,
            "object_id": self,
            "val64": value or 0,
        }
        return int(self.context.ioctl("IOMMU_OPTION", **(given | fields)).val64)

    def add_reserved(self, start: int, length: int) -> None:
        """ADD_RESERVED: an IOVA range, in bytes, that nothing can be mapped to any more."""
        __tracebackhide__ = True
        self.context.test("add_reserved", self, add_reserved={"start": start, "length": length})

    def create_access(self, *, pin: bool = False, **fields: Any) -> Access:
        """CREATE_ACCESS: what a driver has that uses the memory without an IOMMU.

        Args:
            pin: whether it may pin pages.
            fields: any field of create_access.
        """
        __tracebackhide__ = True
        flags = self.context.uapi.MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES if pin else 0
        made = self.context.test("create_access", self, create_access={"flags": flags} | fields)
        return Access(self.context, made.create_access.out_access_fd)

    def _placed(self, iova: int | None) -> dict[str, Any]:
        """Return the flags of readable and writeable memory at an IOVA, or at any."""
        fixed = self.context.uapi.IOMMU_IOAS_MAP_FIXED_IOVA if iova is None else 0
        return {"flags": FIXED_RW & ~fixed, "iova": iova or 0}
