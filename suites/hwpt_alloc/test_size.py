# SPDX-License-Identifier: GPL-2.0-only
"""The struct's size: what is too short, what is cut off, and what comes after it."""

from __future__ import annotations

import mmap
from errno import E2BIG, EFAULT, EINVAL, ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import (
        Buffer,
        Context,
        FaultQueue,
        Hwpt,
        HwptType,
        Ioas,
        MockDevice,
    )
    from pytest_iommufd.uapi import Uapi

LOW = 0x5000_0000


@pytest.fixture
def plain(uapi: Uapi, mock_device: MockDevice, ioas: Ioas) -> Callable[..., bytes]:
    """Makes the bytes of a struct that would be accepted, but for the fields given."""

    def make(**fields: int) -> bytes:
        given = {"size": uapi.sizeof("iommu_hwpt_alloc"), "dev_id": mock_device.id}
        return bytes(uapi.struct("iommu_hwpt_alloc", **(given | {"pt_id": ioas.id} | fields)))

    return make


@rule("hwpt_alloc.size.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel"])
def test_size_cannot_be_read(iommufd: Context, unmapped: int, where: str) -> None:
    """A struct whose size cannot be read: EFAULT (iommufd_fops_ioctl)."""
    pointer = {"null": 0, "unmapped": unmapped, "kernel": 0xFFFF_8000_0000_0000}[where]
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", pointer)


@rule("hwpt_alloc.size.unreadable_half")
def test_size_is_half_readable(
    iommufd: Context, page_before_hole: Buffer, plain: Callable[..., bytes]
) -> None:
    """A size of which two bytes cannot be read: EFAULT (iommufd_fops_ioctl, get_user)."""
    at = page_before_hole.write(plain()[:2], page_before_hole.size - 2)
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.below_minimum")
@pytest.mark.parametrize("size", [0, 1, 4, 8, 16, 20, 23])
def test_size_below_the_first_version(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, size: int
) -> None:
    """Up to __reserved all must be there: EINVAL (main.c, table of ioctls)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, ioas, size=size)


@rule("hwpt_alloc.size.first_version")
@pytest.mark.parametrize("size", [24, 25, 27, 28, 31, 32, 36, 39])
def test_size_of_older_programs(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, size: int
) -> None:
    """The first version ended with __reserved, and what is cut off counts as 0 (main.c)."""
    iommufd.hwpt_alloc(mock_device, ioas, size=size).destroy()


@rule("hwpt_alloc.size.without_fault_id")
@pytest.mark.parametrize("size", [40, 41, 44, 47, 48])
def test_size_of_a_program_without_fault_id(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, size: int
) -> None:
    """Up to data_uptr is all a nested HWPT needs (main.c, copy_struct_from_user)."""
    data = hwpt_type.valid(iotlb=size)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, size=size).check_iotlb(0, size)


@rule("hwpt_alloc.size.cuts_data_len")
def test_size_cuts_data_len_off(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A data_type whose data_len is cut off has no length: EINVAL (iommufd_hwpt_alloc)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=28)


@rule("hwpt_alloc.size.cuts_inside_field")
def test_size_cuts_inside_a_field(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A size cuts bytes, not fields: data_len keeps its low ones, data_uptr is null: EFAULT."""
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=31)


@rule("hwpt_alloc.size.cuts_data_uptr")
def test_size_cuts_data_uptr_off(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A data_uptr that is cut off is null: EFAULT (__iommu_copy_struct_from_user)."""
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=32)


@rule("hwpt_alloc.size.cuts_half_of_data_uptr")
def test_size_cuts_the_upper_half_of_data_uptr_off(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    buffers: Callable[..., Buffer],
    page_size: int,
) -> None:
    """Of data_uptr its low half is left, which is where the data is then read (main.c)."""
    data = hwpt_type.valid(iotlb=0x36)
    at = 0xDEAD_BEEF << 32 | buffers(page_size, at=LOW).write(data.content)
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at, size=36)
    made.check_iotlb(0, 0x36)


@rule("hwpt_alloc.size.cuts_fault_id")
def test_size_cuts_fault_id_off(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    fault_queue: FaultQueue,
    uapi: Uapi,
) -> None:
    """A fault_id that is cut off is 0, which no object has: ENOENT (iommufd_get_fault)."""
    flag = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with raises_errno(ENOENT):
        iommufd.hwpt_alloc(
            mock_device,
            parent_hwpt,
            hwpt_type.valid(),
            flags=flag,
            fault_id=fault_queue,
            size=40,
        )


@rule("hwpt_alloc.size.cuts_reserved2")
def test_size_ends_with_fault_id(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    fault_queue: FaultQueue,
    uapi: Uapi,
) -> None:
    """Up to fault_id is all that a HWPT with a fault queue needs (main.c)."""
    flag = uapi.IOMMU_HWPT_FAULT_ID_VALID
    data = hwpt_type.valid(iotlb=44)
    made = iommufd.hwpt_alloc(
        mock_device, parent_hwpt, data, flags=flag, fault_id=fault_queue, size=44
    )
    made.check_iotlb(0, 44)


@rule("hwpt_alloc.size.tail_zero")
@pytest.mark.parametrize("extra", [1, 8, 16, 152, 4048])
def test_tail_of_zeroes(iommufd: Context, mock_device: MockDevice, ioas: Ioas, extra: int) -> None:
    """Zeroes after the struct are a newer program's unused fields (copy_struct_from_user)."""
    iommufd.hwpt_alloc(mock_device, ioas, tail=bytes(extra)).destroy()


@rule("hwpt_alloc.size.tail_nonzero")
@pytest.mark.parametrize("extra", [1, 8, 16, 4048])
@pytest.mark.parametrize("place", ["first", "last"])
def test_tail_with_a_bit_set(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, extra: int, place: str
) -> None:
    """A bit set after the struct is a field not known here: E2BIG (copy_struct_from_user)."""
    tail = bytearray(extra)
    tail[0 if place == "first" else -1] = 0x80
    with raises_errno(E2BIG):
        iommufd.hwpt_alloc(mock_device, ioas, tail=bytes(tail))


@rule("hwpt_alloc.size.unreadable_fields")
@pytest.mark.parametrize("readable", [4, 8, 20, 24, 47])
def test_fields_cannot_be_read(
    iommufd: Context, page_before_hole: Buffer, plain: Callable[..., bytes], readable: int
) -> None:
    """A struct that ends in memory that cannot be read: EFAULT (copy_struct_from_user)."""
    at = page_before_hole.write(plain()[:readable], page_before_hole.size - readable)
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.unreadable_tail")
@pytest.mark.parametrize("size", [49, 64, 4096, 0xFFFF_FFFF])
def test_tail_cannot_be_read(
    iommufd: Context, page_before_hole: Buffer, plain: Callable[..., bytes], size: int
) -> None:
    """A tail that cannot be read: EFAULT, however large (check_zeroed_user)."""
    content = plain(size=size)
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.tail_nonzero_before_unreadable")
def test_tail_with_a_bit_set_before_what_cannot_be_read(
    iommufd: Context, page_before_hole: Buffer, plain: Callable[..., bytes]
) -> None:
    """The tail is read only up to its first bit: E2BIG, not EFAULT (check_zeroed_user)."""
    content = plain(size=64) + b"\1" * 8
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    with raises_errno(E2BIG):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.unaligned")
@pytest.mark.parametrize("offset", [1, 2, 4, 101])
def test_struct_need_not_be_aligned(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, buffer: Buffer, offset: int
) -> None:
    """The struct may be at any address (copy_struct_from_user)."""
    iommufd.hwpt_alloc(mock_device, ioas, at=buffer.address + offset).destroy()


@rule("hwpt_alloc.size.unwritable_beyond")
def test_nothing_is_written_beyond_the_size(
    iommufd: Context,
    buffers: Callable[..., Buffer],
    page_size: int,
    uapi: Uapi,
    plain: Callable[..., bytes],
) -> None:
    """Bytes beyond the size may be read-only: they are not written (iommufd_ucmd_respond)."""
    pages = buffers(2 * page_size)
    pages.protect(mmap.PROT_READ, page_size)
    at = pages.write(plain(size=24)[:24], page_size - 24)
    iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
    out = uapi.struct("iommu_hwpt_alloc").load(pages.read(24, page_size - 24)).out_hwpt_id
    iommufd.destroy(out)
