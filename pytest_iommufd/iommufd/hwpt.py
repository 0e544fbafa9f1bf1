# SPDX-License-Identifier: GPL-2.0-only
"""Hardware page tables, and the data types of nested ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.uapi import Struct, Uapi


class Hwpt(IommufdObject):
    """A hardware page table; of an IOAS, or nested in a parent or a vIOMMU."""

    def check_iotlb(self, entry: int, value: int) -> None:
        """MD_CHECK_IOTLB: EINVAL unless a nested mock HWPT's IOTLB entry has this value."""
        __tracebackhide__ = True
        self.context.test("md_check_iotlb", self, check_iotlb={"id": entry, "iotlb": value})

    def set_dirty_tracking(self, *, enable: bool = True, **fields: Any) -> None:
        """IOMMU_HWPT_SET_DIRTY_TRACKING: switch it on or off."""
        __tracebackhide__ = True
        flags = self.context.uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE if enable else 0
        given: dict[str, Any] = {"hwpt_id": self, "flags": flags}
        self.context.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", **(given | fields))

    def get_dirty_bitmap(
        self, iova: int, length: int, page_size: int, bitmap: SupportsIndex, **fields: Any
    ) -> None:
        """IOMMU_HWPT_GET_DIRTY_BITMAP, which adds to the bits that are set in the bitmap.

        Args:
            iova: where.
            length: bytes.
            page_size: what a bit of the bitmap is for, bytes.
            bitmap: where the process has the bitmap (the struct's data).
            fields: any field.
        """
        __tracebackhide__ = True
        given: dict[str, Any] = {
            "hwpt_id": self,
            "iova": iova,
            "length": length,
            "page_size": page_size,
            "data": bitmap,
        }
        self.context.ioctl("IOMMU_HWPT_GET_DIRTY_BITMAP", **(given | fields))

    def mark_dirty(
        self, iova: int, length: int, page_size: int, bitmap: SupportsIndex, **fields: Any
    ) -> int:
        """DIRTY, as if a device had written to the pages whose bits are set.

        The arguments are those of get_dirty_bitmap(); fields are those of the struct's `dirty`.

        Returns:
            How many the kernel says it has marked.
        """
        __tracebackhide__ = True
        given = {"iova": iova, "length": length, "page_size": page_size, "uptr": bitmap}
        given |= fields
        return int(self.context.test("dirty", self, dirty=given).dirty.out_nr_dirty)


@dataclass(frozen=True)
class UserData:
    """What a driver gets with IOMMU_HWPT_ALLOC.

    Attributes:
        type: the number for data_type.
        content: the bytes for data_uptr.
    """

    type: int
    content: bytes


@dataclass(frozen=True)
class HwptData:
    """What makes data of one type, with the structs of one kernel.

    Attributes:
        uapi: the kernel's structs.
        data_type: the enumerator's or constant's name.
        struct: the name of its struct.
        sample: valid values for that struct's fields.
    """

    uapi: Uapi
    data_type: str
    struct: str
    sample: dict[str, int]

    @property
    def number(self) -> int:
        """The number for data_type."""
        return getattr(self.uapi, self.data_type)  # type: ignore[no-any-return]

    def make(self, **fields: int) -> Struct:
        """Return its struct with the sample's values, but for the fields given."""
        return self.uapi.struct(self.struct, **(self.sample | fields))

    def valid(self, **fields: int) -> UserData:
        """Return data that a driver takes."""
        return UserData(self.number, bytes(self.make(**fields)))
