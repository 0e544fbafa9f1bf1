# SPDX-License-Identifier: GPL-2.0-only
"""The driver's data: type and length together, and what the mock driver makes of them."""

from __future__ import annotations

import mmap
from errno import EFAULT, EINVAL, ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import UserData

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, HwptType, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

# Known to other drivers, and to none; VTD_S1, ARM_SMMUV3, AMD_GUEST come first.
OTHER_TYPES = [1, 2, 3, 0xBEEF, 0xDEAD_0000, 0xFFFF_FFFF]
TYPE_IDS = [f"{number:#x}" for number in OTHER_TYPES]
KERNEL_ADDRESS = 0xFFFF_8000_0000_0000


@rule("hwpt_alloc.data.length_without_type")
@pytest.mark.parametrize("length", [1, 4, 8, 0xFFFF_FFFF], ids=["1", "4", "8", "all_ones"])
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_length_without_type(
    iommufd: Context,
    mock_device: MockDevice,
    buffer: Buffer,
    pt: str,
    length: int,
    request: pytest.FixtureRequest,
) -> None:
    """A data_len with DATA_NONE: EINVAL (iommufd_hwpt_alloc)."""
    target = request.getfixturevalue(pt)
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, target, data_len=length, data_uptr=buffer)


@rule("hwpt_alloc.data.type_without_length")
@pytest.mark.parametrize("data_type", [0xDEAD, *OTHER_TYPES], ids=["selftest", *TYPE_IDS])
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_type_without_length(
    iommufd: Context,
    mock_device: MockDevice,
    buffer: Buffer,
    pt: str,
    data_type: int,
    request: pytest.FixtureRequest,
) -> None:
    """A data_type without data_len: EINVAL (iommufd_hwpt_alloc)."""
    target = request.getfixturevalue(pt)
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, target, data_type=data_type, data_uptr=buffer)


# ---- nested ----


@rule("hwpt_alloc.data.nested.unknown_type")
@pytest.mark.parametrize("data_type", OTHER_TYPES, ids=TYPE_IDS)
def test_type_of_another_driver(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    data_type: int,
) -> None:
    """A data_type that the driver does not know: EOPNOTSUPP (mock driver)."""
    data = UserData(data_type, hwpt_type.valid().content)
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, data)


@rule("hwpt_alloc.data.nested.reaches_driver")
@pytest.mark.parametrize("value", [0, 1, 0x8000_0000, 0xFFFF_FFFF], ids=hex)
def test_data_reaches_the_driver(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, value: int
) -> None:
    """The driver gets the data as it is (mock driver, iotlb)."""
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(iotlb=value))
    made.check_iotlb(0, value)
    with raises_errno(EINVAL):
        made.check_iotlb(0, value ^ 1)


@rule("hwpt_alloc.data.nested.too_short")
@pytest.mark.parametrize("length", [1, 2, 3])
def test_data_is_too_short(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, length: int
) -> None:
    """Data shorter than the first version of its struct: EINVAL (__iommu_copy_struct_from_user)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_len=length)


@rule("hwpt_alloc.data.nested.first_version")
def test_data_of_the_first_version(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """Data of 4 bytes, the first version of its struct (__iommu_copy_struct_from_user)."""
    data = hwpt_type.valid(iotlb=4)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_len=4).check_iotlb(0, 4)


@rule("hwpt_alloc.data.nested.up_to_the_struct")
@pytest.mark.parametrize("length", range(5, 9))
@pytest.mark.parametrize("fill", [0, 0xFF], ids=["zero", "nonzero"])
def test_data_up_to_the_struct_as_known(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    uapi: Uapi,
    length: int,
    fill: int,
) -> None:
    """Longer data: accepted up to the struct as the kernel knows it, else EINVAL."""
    content = (5).to_bytes(4, "little").ljust(length, bytes([fill]))
    data = UserData(hwpt_type.number, content)
    if length <= uapi.sizeof("iommu_hwpt_selftest"):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, data).check_iotlb(0, 5)
    else:
        with raises_errno(EINVAL):
            iommufd.hwpt_alloc(mock_device, parent_hwpt, data)


@rule("hwpt_alloc.data.nested.too_long")
@pytest.mark.parametrize("extra", [1, 4, 8, 4000])
@pytest.mark.parametrize("fill", [0, 1], ids=["zero", "nonzero"])
def test_data_is_too_long(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    extra: int,
    fill: int,
) -> None:
    """Data longer than its struct: EINVAL, its tail zero or not (__iommu_copy_struct_from_user)."""
    data = hwpt_type.valid()
    longer = UserData(data.type, data.content + bytes([fill]) * extra)
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, longer)


@rule("hwpt_alloc.data.nested.length_all_ones")
@pytest.mark.parametrize("length", [0x8000_0000, 0xFFFF_FFFF], ids=["2_gib", "all_ones"])
def test_data_of_gigabytes(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, length: int
) -> None:
    """A huge data_len is refused before anything is read: EINVAL."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_len=length)


@rule("hwpt_alloc.data.nested.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel", "last_address"])
def test_data_cannot_be_read(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    unmapped: int,
    where: str,
) -> None:
    """A data_uptr that cannot be read: EFAULT (copy_struct_from_user)."""
    last = (1 << 64) - 4
    at = {"null": 0, "unmapped": unmapped, "kernel": KERNEL_ADDRESS, "last_address": last}[where]
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_uptr=at)


@rule("hwpt_alloc.data.nested.straddling")
@pytest.mark.parametrize("readable", [1, 2, 3])
def test_data_straddles_into_what_cannot_be_read(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    page_before_hole: Buffer,
    readable: int,
) -> None:
    """Data of which only the first bytes can be read: EFAULT (copy_struct_from_user)."""
    at = page_before_hole.end - readable
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_uptr=at)


@rule("hwpt_alloc.data.nested.ends_before_hole")
def test_data_is_not_read_beyond_its_length(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    page_before_hole: Buffer,
) -> None:
    """No byte beyond data_len is read (copy_struct_from_user)."""
    data = hwpt_type.valid(iotlb=6)
    at = page_before_hole.write(data.content[:4], page_before_hole.size - 4)
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at, data_len=4)
    made.check_iotlb(0, 6)


@rule("hwpt_alloc.data.nested.readonly")
def test_data_may_be_readonly(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    readonly: Callable[[bytes], int],
) -> None:
    """Data is only read (copy_struct_from_user)."""
    data = hwpt_type.valid(iotlb=7)
    at = readonly(data.content)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at).check_iotlb(0, 7)


@rule("hwpt_alloc.data.nested.unaligned")
@pytest.mark.parametrize("offset", [1, 2, 501, 4094])
def test_data_need_not_be_aligned(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    buffer: Buffer,
    offset: int,
) -> None:
    """Data may be at any address, across pages too (copy_struct_from_user)."""
    data = hwpt_type.valid(iotlb=offset)
    at = buffer.write(data.content, offset)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at).check_iotlb(3, offset)


@rule("hwpt_alloc.data.nested.unchanged")
def test_data_is_not_written(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    buffer: Buffer,
) -> None:
    """The data stays as it was given (copy_struct_from_user)."""
    data = hwpt_type.valid()
    at = buffer.write(data.content + b"\x5a" * 8)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at)
    assert buffer.read(len(data.content) + 8) == data.content + b"\x5a" * 8


# ---- of an IOAS ----


@rule("hwpt_alloc.data.paging.unknown_type")
@pytest.mark.parametrize("data_type", OTHER_TYPES, ids=TYPE_IDS)
def test_type_of_another_driver_with_an_ioas(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, data_type: int
) -> None:
    """A data_type that the driver does not know, with an IOAS: EOPNOTSUPP (mock driver)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas, UserData(data_type, bytes(4)))


@rule("hwpt_alloc.data.paging")
@pytest.mark.parametrize("length", range(4, 9))
def test_data_with_an_ioas(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    hwpt_type: HwptType,
    length: int,
    *,
    paging_takes_data: bool,
) -> None:
    """Data with an IOAS makes no nested HWPT; a driver without use for it: EOPNOTSUPP."""
    data = UserData(hwpt_type.number, bytes(length))
    if not paging_takes_data:
        with raises_errno(EOPNOTSUPP):
            iommufd.hwpt_alloc(mock_device, other_ioas, data)
        return
    made = iommufd.hwpt_alloc(mock_device, other_ioas, data)
    with raises_errno(ENOENT):
        made.check_iotlb(0, 0)  # only a nested one has an IOTLB


@rule("hwpt_alloc.data.paging.length")
@pytest.mark.parametrize("length", [1, 2, 3, 9, 12, 16, 0xFFFF_FFFF])
@pytest.mark.usefixtures("paging_data")
def test_data_of_a_wrong_length_with_an_ioas(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    hwpt_type: HwptType,
    length: int,
) -> None:
    """Data too short or too long, with an IOAS: EINVAL (__iommu_copy_struct_from_user)."""
    data = UserData(hwpt_type.number, bytes(16))
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, ioas, data, data_len=length)


@rule("hwpt_alloc.data.paging.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel", "straddling"])
@pytest.mark.usefixtures("paging_data")
def test_data_cannot_be_read_with_an_ioas(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    hwpt_type: HwptType,
    unmapped: int,
    where: str,
) -> None:
    """A data_uptr that cannot be read, with an IOAS: EFAULT (copy_struct_from_user)."""
    at = {"null": 0, "unmapped": unmapped, "kernel": KERNEL_ADDRESS, "straddling": unmapped - 6}
    data = UserData(hwpt_type.number, bytes(8))
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, ioas, data, data_uptr=at[where])


@rule("hwpt_alloc.data.paging.pagetable_type")
@pytest.mark.parametrize("value", [2, 3, 0x100, 0xFFFF_FFFF], ids=hex)
@pytest.mark.usefixtures("paging_data")
def test_unknown_page_table(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    hwpt_type: HwptType,
    value: int,
) -> None:
    """A page table type that the mock driver lacks: EOPNOTSUPP (mock_domain_alloc_pgtable)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas, hwpt_type.valid(pagetable_type=value))


@rule("hwpt_alloc.data.paging.pagetable_type_cut")
@pytest.mark.usefixtures("paging_data")
def test_unknown_page_table_in_half_a_field(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, hwpt_type: HwptType
) -> None:
    """Data cut within a field keeps that field's first bytes: EOPNOTSUPP for type 0x100."""
    data = hwpt_type.valid(pagetable_type=0x100)
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas, data, data_len=6)


@rule("hwpt_alloc.data.paging.readonly")
@pytest.mark.usefixtures("paging_data")
def test_data_may_be_readonly_with_an_ioas(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    hwpt_type: HwptType,
    buffers: Callable[..., Buffer],
    page_size: int,
) -> None:
    """Data with an IOAS is only read too (copy_struct_from_user)."""
    page = buffers(page_size)
    data = hwpt_type.valid()
    at = page.write(data.content)
    page.protect(mmap.PROT_READ)
    iommufd.hwpt_alloc(mock_device, ioas, data, data_uptr=at).destroy()
