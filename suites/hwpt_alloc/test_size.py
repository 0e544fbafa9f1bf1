# SPDX-License-Identifier: GPL-2.0-only
"""The struct's size: what is too short, what is cut off, and what comes after it."""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import Hwpt

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import (
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
def test_size_cannot_be_read(expected, iommufd, unmapped, where):
    pointer = {"null": 0, "unmapped": unmapped, "kernel": 0xFFFF_8000_0000_0000}[where]
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", pointer)


@rule("hwpt_alloc.size.unreadable_half")
def test_size_is_half_readable(expected, iommufd, page_before_hole, plain):
    at = page_before_hole.write(plain()[:2], page_before_hole.size - 2)
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.below_minimum")
@pytest.mark.parametrize("size", [0, 4, 23])
def test_size_below_the_first_version(expected, iommufd, mock_device, ioas, size):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, size=size)


@rule("hwpt_alloc.size.first_version")
@pytest.mark.parametrize("size", [24, 25, 32, 39])
def test_size_of_older_programs(expected, iommufd, mock_device, ioas, size):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, size=size)


@rule("hwpt_alloc.size.without_fault_id")
@pytest.mark.parametrize("size", [40, 47, 48])
def test_size_of_a_program_without_fault_id(iommufd, mock_device, parent_hwpt, hwpt_type, size):
    data = hwpt_type.valid(iotlb=size)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, size=size).check_iotlb(0, size)


@rule("hwpt_alloc.size.cuts_data_len")
def test_size_cuts_data_len_off(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=28)


@rule("hwpt_alloc.size.cuts_inside_field")
def test_size_cuts_inside_a_field(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=31)


@rule("hwpt_alloc.size.cuts_data_uptr")
def test_size_cuts_data_uptr_off(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), size=32)


@rule("hwpt_alloc.size.cuts_half_of_data_uptr")
def test_size_cuts_the_upper_half_of_data_uptr_off(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, buffers, page_size
):
    data = hwpt_type.valid(iotlb=0x36)
    at = 0xDEAD_BEEF << 32 | buffers(page_size, at=LOW).write(data.content)
    with expected:
        made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at, size=36)
    if expected.ok:
        made.check_iotlb(0, 0x36)


@rule("hwpt_alloc.size.cuts_fault_id")
def test_size_cuts_fault_id_off(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, fault_queue, after_data_uptr, uapi
):
    flag, data = uapi.IOMMU_HWPT_FAULT_ID_VALID, hwpt_type.valid()
    fields, tail = after_data_uptr(fault_queue)
    with expected, iommufd.sending(tail=tail):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, data, flags=flag, size=40, **fields)


@rule("hwpt_alloc.size.cuts_reserved2")
def test_size_ends_with_fault_id(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, fault_queue, after_data_uptr, uapi
):
    flag, data = uapi.IOMMU_HWPT_FAULT_ID_VALID, hwpt_type.valid(iotlb=44)
    fields, tail = after_data_uptr(fault_queue)
    with expected, iommufd.sending(tail=tail):
        made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, flags=flag, size=44, **fields)
    if expected.ok:
        made.check_iotlb(0, 44)


@rule("hwpt_alloc.size.tail_zero")
@pytest.mark.parametrize("extra", [1, 8, 4048])
def test_tail_of_zeroes(iommufd, mock_device, ioas, extra):
    with iommufd.sending(tail=bytes(extra)):
        iommufd.hwpt_alloc(mock_device, ioas).destroy()


@rule("hwpt_alloc.size.tail_nonzero")
@pytest.mark.parametrize("extra", [1, 4048])
@pytest.mark.parametrize("place", ["first", "last"])
def test_tail_with_a_bit_set(expected, iommufd, mock_device, ioas, extra, place):
    tail = bytearray(extra)
    tail[0 if place == "first" else -1] = 0x80
    with expected, iommufd.sending(tail=bytes(tail)):
        iommufd.hwpt_alloc(mock_device, ioas)


@rule("hwpt_alloc.size.unreadable_fields")
@pytest.mark.parametrize("readable", [4, 24, -1])
def test_fields_cannot_be_read(expected, iommufd, page_before_hole, plain, readable):
    content = plain()[:readable]
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.unreadable_tail")
@pytest.mark.parametrize("extra", [1, 16, 4048, None])
def test_tail_cannot_be_read(expected, iommufd, page_before_hole, plain, extra):
    content = plain(size=0xFFFF_FFFF if extra is None else len(plain()) + extra)
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.tail_nonzero_before_unreadable")
def test_tail_with_a_bit_set_before_what_cannot_be_read(expected, iommufd, page_before_hole, plain):
    content = plain(size=len(plain()) + 16) + b"\1" * 8
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)


@rule("hwpt_alloc.size.unaligned")
@pytest.mark.parametrize("offset", [1, 4])
def test_struct_need_not_be_aligned(iommufd, mock_device, ioas, buffer, offset):
    with iommufd.sending(at=buffer.address + offset):
        iommufd.hwpt_alloc(mock_device, ioas).destroy()


@rule("hwpt_alloc.size.unwritable_beyond")
def test_nothing_is_written_beyond_the_size(expected, iommufd, buffers, page_size, uapi, plain):
    pages = buffers(2 * page_size)
    pages.protect(mmap.PROT_READ, page_size)
    at = pages.write(plain(size=24)[:24], page_size - 24)
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
    if expected.ok:
        written = uapi.struct("iommu_hwpt_alloc").load(pages.read(24, page_size - 24))
        iommufd.destroy(written.out_hwpt_id)


@rule("hwpt_alloc.layout")
def test_fields_are_where_programs_expect_them(
    iommufd, mock_device, parent_hwpt, hwpt_type, buffer
):
    data = hwpt_type.valid(iotlb=0x24)
    uptr = iommufd.put(data.content)
    numbers = (40, 0, mock_device.id, parent_hwpt.id, 0, 0, data.type, len(data.content), uptr)
    at = buffer.write(struct.pack("<8IQ", *numbers))
    iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
    out = int.from_bytes(buffer.read(4, 16), "little")
    Hwpt(iommufd, out).check_iotlb(0, 0x24)
