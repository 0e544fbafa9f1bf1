# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_GET_HW_INFO takes and what it tells."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.uapi.spare import spare_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context
    from pytest_iommufd.uapi import Uapi

INPUT_TYPE = 1
OTHER_TYPES = [1, 2, 3, 0xDEAD, 0xFFFF_FFFF]
LENGTH = 8  # of struct iommu_test_hw_info: flags, test_reg
NO_DEVICE = ["ioas", "hwpt", "nested_hwpt", "fault_queue"]


@pytest.fixture
def info(uapi: Uapi) -> bytes:
    """What the mock driver tells."""
    return struct.pack("<II", 0, uapi.IOMMU_HW_INFO_SELFTEST_REGVAL)


@pytest.fixture
def filled(buffer: Buffer) -> Buffer:
    """Memory that is not zero."""
    buffer.write(b"\xcc" * 64)
    return buffer


@pytest.fixture
def with_reserved(iommufd: Context, uapi: Uapi, buffer: Buffer) -> Callable[[int, int], None]:
    """Makes the call for a device with a bit in one of the reserved bytes."""

    def call(device: int, index: int) -> None:
        size = uapi.sizeof("iommu_hw_info")
        raw = bytearray(bytes(uapi.struct("iommu_hw_info", size=size, dev_id=device)))
        raw[uapi.offsetof("iommu_hw_info", "__reserved") + index] = 0x80
        iommufd.ioctl_pointer("IOMMU_GET_HW_INFO", buffer.write(bytes(raw)))

    return call


# ---- flags, reserved bytes ----


@rule("hw_info.flags")
def test_unknown_flag(expected, mock_device, uapi):
    spare = spare_flags(uapi, "iommu_hw_info.flags")
    for flags in [spare[0], spare[0] | INPUT_TYPE, spare[1], spare[-1], 0xFFFF_FFFF]:
        with expected:
            mock_device.get_hw_info(flags=flags)


@rule("hw_info.flags.input_type")
def test_flag_for_the_type(expected, mock_device, uapi):
    with expected:
        made = mock_device.get_hw_info(flags=INPUT_TYPE)
    if expected.ok:
        assert made.out_data_type == uapi.IOMMU_HW_INFO_TYPE_SELFTEST


@rule("hw_info.reserved")
def test_reserved_byte(expected, mock_device, with_reserved):
    for index in [0, 1, 2]:
        with expected:
            with_reserved(mock_device.id, index)


@rule("hw_info.reserved.before_device")
def test_reserved_byte_for_no_device(expected, with_reserved):
    with expected:
        with_reserved(9999, 0)


# ---- the device ----


@rule("hw_info.dev_id")
def test_unknown_device(expected, mock_device):
    for wrong in [0, 9999, 1 << 31, 0xFFFF_FFFF]:
        with expected:
            mock_device.get_hw_info(dev_id=wrong)


@rule("hw_info.dev_id.other_type")
def test_id_of_something_else(expected, mock_device, request):
    for kind in NO_DEVICE:
        wrong = request.getfixturevalue(kind)
        with expected:
            mock_device.get_hw_info(dev_id=wrong)


@rule("hw_info.dev_id.other_type")
def test_id_of_the_mock_device_itself(expected, mock_device):
    with expected:
        mock_device.get_hw_info(dev_id=mock_device.selftest)


@rule("hw_info.dev_id.destroyed")
def test_destroyed_device(expected, mock_device):
    mock_device.destroy()
    with expected:
        mock_device.get_hw_info()


@rule("hw_info.dev_id.other_context")
def test_device_of_another_context(expected, other_iommufd, mock_device):
    with expected:
        other_iommufd.ioctl("IOMMU_GET_HW_INFO", dev_id=mock_device)


@rule("hw_info.holds_nothing")
@pytest.mark.parametrize("fields", [{}, {"data_len": 8}, {"flags": 2}], ids=["ok", "fault", "flag"])
def test_asked_device_can_go(mock_device, ioas, fields):
    try:
        mock_device.get_hw_info(**fields)
    except OSError:
        assert fields
    mock_device.destroy()
    ioas.destroy()


# ---- the type ----


@rule("hw_info.type")
def test_type_is_told(mock_device, uapi):
    assert mock_device.get_hw_info().out_data_type == uapi.IOMMU_HW_INFO_TYPE_SELFTEST


@rule("hw_info.type.asked")
@pytest.mark.parametrize("asked", ["IOMMU_HW_INFO_TYPE_DEFAULT", "IOMMU_HW_INFO_TYPE_SELFTEST"])
def test_type_that_is_asked_for(mock_device, filled, info, uapi, asked):
    made = mock_device.get_hw_info(
        flags=INPUT_TYPE, in_data_type=getattr(uapi, asked), data_len=LENGTH, data_uptr=filled
    )
    assert made.out_data_type == uapi.IOMMU_HW_INFO_TYPE_SELFTEST
    assert filled.read(LENGTH) == info


@rule("hw_info.type.unknown")
def test_type_of_another_driver(expected, mock_device):
    for asked in OTHER_TYPES:
        with expected:
            mock_device.get_hw_info(flags=INPUT_TYPE, out_data_type=asked)


@rule("hw_info.type.unknown.before_data")
def test_type_of_another_driver_copies_nothing(expected, mock_device, filled):
    with expected:
        mock_device.get_hw_info(
            flags=INPUT_TYPE, out_data_type=1, data_len=0xFFFF_FFFF, data_uptr=filled
        )
    assert filled.read(16) == b"\xcc" * 16


@rule("hw_info.type.ignored")
def test_type_without_the_flag(mock_device, uapi):
    for asked in OTHER_TYPES:
        made = mock_device.get_hw_info(out_data_type=asked)
        assert made.out_data_type == uapi.IOMMU_HW_INFO_TYPE_SELFTEST


# ---- the data ----


@rule("hw_info.data.none")
def test_no_length(mock_device, unmapped):
    for at in (0, unmapped):
        assert mock_device.get_hw_info(data_len=0, data_uptr=at).data_len == LENGTH


@rule("hw_info.data.exact")
def test_data_is_told(mock_device, filled, info):
    assert mock_device.get_hw_info(data_len=LENGTH, data_uptr=filled).data_len == LENGTH
    assert filled.read(16) == info + b"\xcc" * 8


@rule("hw_info.data.short")
def test_short_buffer(mock_device, filled, info):
    for length in [1, 4, 7]:
        assert mock_device.get_hw_info(data_len=length, data_uptr=filled).data_len == LENGTH
        assert filled.read(16) == info[:length] + b"\xcc" * (16 - length)


@rule("hw_info.data.long")
def test_long_buffer(mock_device, filled, info):
    for length in [9, 16, 33]:
        assert mock_device.get_hw_info(data_len=length, data_uptr=filled).data_len == LENGTH
        assert filled.read(40) == info.ljust(length, b"\0").ljust(40, b"\xcc")


@rule("hw_info.data.long")
def test_buffer_of_pages(mock_device, buffer, info):
    buffer.write(b"\xcc" * buffer.size)
    mock_device.get_hw_info(data_len=buffer.size - 1, data_uptr=buffer)
    assert buffer.read(buffer.size) == info.ljust(buffer.size - 1, b"\0") + b"\xcc"


@rule("hw_info.data.unwritable")
def test_buffer_that_is_not_there(expected, mock_device, unmapped):
    for length in [1, 8, 16]:
        for at in (0, unmapped, unmapped - min(length, LENGTH) + 1):
            with expected:
                mock_device.get_hw_info(data_len=length, data_uptr=at)


@rule("hw_info.data.unwritable")
def test_buffer_that_is_read_only(expected, mock_device, readonly):
    with expected:
        mock_device.get_hw_info(data_len=LENGTH, data_uptr=readonly(bytes(LENGTH)))


@rule("hw_info.data.tail_unwritable")
def test_rest_that_is_not_there(expected, iommufd, mock_device, unmapped, info):
    for length in [9, 16]:
        with expected:
            mock_device.get_hw_info(data_len=length, data_uptr=unmapped - LENGTH)
        assert iommufd.process.read(unmapped - LENGTH, LENGTH) == info


@rule("hw_info.data.huge_length")
def test_largest_length(expected, iommufd, mock_device, unmapped, info):
    with expected:
        mock_device.get_hw_info(data_len=0xFFFF_FFFF, data_uptr=unmapped - 64)
    assert iommufd.process.read(unmapped - 64, 64) == info.ljust(64, b"\0")


# ---- capabilities ----


@rule("hw_info.capabilities.dirty")
@pytest.mark.parametrize("no_dirty", [False, True], ids=["dirty", "no_dirty"])
def test_dirty_tracking_is_told(mock_devices, uapi, no_dirty):
    told = mock_devices(no_dirty=no_dirty).get_hw_info().out_capabilities
    assert bool(told & uapi.IOMMU_HW_CAP_DIRTY_TRACKING) == (not no_dirty)


@rule("hw_info.capabilities.ats")
@pytest.mark.parametrize("no_dirty", [False, True], ids=["dirty", "no_dirty"])
def test_lack_of_ats_is_told(mock_devices, uapi, no_dirty):
    told = mock_devices(no_dirty=no_dirty).get_hw_info().out_capabilities
    other = 0 if no_dirty else uapi.IOMMU_HW_CAP_DIRTY_TRACKING
    assert told == uapi.IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED | other


@rule("hw_info.capabilities.overwritten")
def test_answers_are_overwritten(mock_device):
    right = mock_device.get_hw_info()
    again = mock_device.get_hw_info(out_max_pasid_log2=99, out_capabilities=(1 << 64) - 1)
    assert again.out_max_pasid_log2 == 0
    assert again.out_capabilities == right.out_capabilities


@rule("hw_info.pasid")
def test_width_of_pasids(mock_devices):
    assert mock_devices(pasid=True).get_hw_info().out_max_pasid_log2 == 20


@rule("hw_info.pasid.none")
def test_no_pasids(mock_device):
    assert mock_device.get_hw_info(out_max_pasid_log2=20).out_max_pasid_log2 == 0


@rule("hw_info.attachment")
def test_attachment_does_not_matter(mock_device, hwpt, nested_hwpt, ioas):
    right = bytes(mock_device.get_hw_info())
    for pt in (hwpt, nested_hwpt, ioas):
        mock_device.replace(pt)
        assert bytes(mock_device.get_hw_info()) == right


@rule("hw_info.unwritable")
def test_struct_cannot_be_written(expected, mock_device, unwritable):
    with expected:
        unwritable("IOMMU_GET_HW_INFO", dev_id=mock_device)
    mock_device.destroy()
