# SPDX-License-Identifier: GPL-2.0-only
"""I/O address spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.memory import Buffer


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
        uapi = self.context.uapi
        flags = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_WRITEABLE
        if iova is not None:
            flags |= uapi.IOMMU_IOAS_MAP_FIXED_IOVA
        if length is None:
            length = 0 if isinstance(source, int) else source.size
        given: dict[str, Any] = {
            "flags": flags,
            "ioas_id": self.id,
            "user_va": source.__index__(),
            "length": length,
            "iova": iova or 0,
        }
        return int(self.context.ioctl("IOMMU_IOAS_MAP", **(given | fields)).iova)

    def unmap(self, iova: int, length: int) -> int:
        """IOMMU_IOAS_UNMAP a range in bytes; returns how many bytes were unmapped."""
        __tracebackhide__ = True
        return int(
            self.context.ioctl("IOMMU_IOAS_UNMAP", ioas_id=self.id, iova=iova, length=length).length
        )

    def allow_iovas(self, *ranges: tuple[int, int]) -> None:
        """IOMMU_IOAS_ALLOW_IOVAS: automatic allocation stays within these (first, last)."""
        __tracebackhide__ = True
        uapi = self.context.uapi
        array = b"".join(
            bytes(uapi.struct("iommu_iova_range", start=first, last=last)) for first, last in ranges
        )
        self.context.ioctl(
            "IOMMU_IOAS_ALLOW_IOVAS",
            ioas_id=self.id,
            num_iovas=len(ranges),
            allowed_iovas=self.context.put(array) if array else 0,
        )
