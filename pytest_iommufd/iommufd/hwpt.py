# SPDX-License-Identifier: GPL-2.0-only
"""Hardware page tables, and the data types of nested ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.uapi import Struct, Uapi


class Hwpt(IommufdObject):
    """A hardware page table; of an IOAS, or nested in a parent or a vIOMMU."""

    def check_iotlb(self, entry: int, value: int) -> None:
        """MD_CHECK_IOTLB: EINVAL unless a nested mock HWPT's IOTLB entry has this value."""
        __tracebackhide__ = True
        self.context.test("md_check_iotlb", self, check_iotlb={"id": entry, "iotlb": value})


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
class HwptType:
    """A data type of HWPTs.

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
