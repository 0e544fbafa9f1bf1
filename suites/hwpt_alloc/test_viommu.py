# SPDX-License-Identifier: GPL-2.0-only
"""Nested HWPTs made from a vIOMMU, on kernels that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import UserData
from pytest_iommufd.uapi.spare import spare_flags

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context


def flag_or_spare(iommufd: Context, bit: int | None) -> int:
    """Return a flag by its bit; for None one that the header does not define."""
    return spare_flags(iommufd.uapi, "iommu_hwpt_alloc.flags")[0] if bit is None else 1 << bit


@rule("hwpt_alloc.viommu.plain")
def test_viommu_gives_a_nested_hwpt(iommufd, mock_device, viommu, hwpt_type):
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(iotlb=0xABC))
    for entry in range(4):
        made.check_iotlb(entry, 0xABC)


@rule("hwpt_alloc.viommu.other_device")
def test_viommu_gives_a_hwpt_for_another_device(
    iommufd, mock_devices, other_ioas, viommu, hwpt_type
):
    other = mock_devices(other_ioas)
    iommufd.hwpt_alloc(other, viommu, hwpt_type.valid(iotlb=2)).check_iotlb(0, 2)


@rule("hwpt_alloc.viommu.holds")
def test_hwpt_holds_its_viommu(expected, iommufd, mock_device, parent_hwpt, viommu, hwpt_type):
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())
    for held in (viommu, parent_hwpt):
        with expected:
            held.destroy()
    made.destroy()
    viommu.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.viommu.no_data")
@pytest.mark.parametrize("size", [24, 48])
def test_viommu_without_data(expected, iommufd, mock_device, viommu, size):
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, size=size)


@rule("hwpt_alloc.viommu.no_data_before_memory")
def test_viommu_without_data_is_found_before_anything_is_made(
    expected, iommufd, mock_device, viommu
):
    with expected, iommufd.sending(fail_nth=3):
        iommufd.hwpt_alloc(mock_device, viommu)


@rule("hwpt_alloc.viommu.flags")
@pytest.mark.parametrize("bit", [0, 1, None, 31])
def test_viommu_with_a_wrong_flag(expected, iommufd, mock_device, viommu, hwpt_type, bit):
    flag = flag_or_spare(iommufd, bit)
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=flag)


@rule("hwpt_alloc.viommu.flags_before_memory")
@pytest.mark.parametrize("bit", [0, 1, None, 31])
def test_viommu_with_a_wrong_flag_is_found_before_anything_is_made(
    expected, iommufd, mock_device, viommu, hwpt_type, bit
):
    flag = flag_or_spare(iommufd, bit)
    with expected, iommufd.sending(fail_nth=3):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=flag)


@rule("hwpt_alloc.viommu.alloc_pasid")
def test_viommu_with_pasid_flag(iommufd, mock_device, viommu, hwpt_type, uapi):
    data = hwpt_type.valid(iotlb=8)
    iommufd.hwpt_alloc(mock_device, viommu, data, flags=uapi.IOMMU_HWPT_ALLOC_PASID).check_iotlb(
        0, 8
    )


@rule("hwpt_alloc.viommu.fault_id")
def test_viommu_with_a_fault_queue(
    expected, iommufd, mock_device, viommu, hwpt_type, fault_queue, uapi
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    made = iommufd.hwpt_alloc(
        mock_device, viommu, hwpt_type.valid(), flags=flags, fault_id=fault_queue
    )
    fault_queue.close()
    with expected:
        fault_queue.destroy()
    made.destroy()
    fault_queue.destroy()


@rule("hwpt_alloc.viommu.fault_id_unknown")
@pytest.mark.parametrize("wrong", ["zero", "never_used", "ioas"])
def test_viommu_with_a_wrong_fault_queue(
    expected, iommufd, mock_device, viommu, hwpt_type, ioas, uapi, wrong
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    number = {"zero": 0, "never_used": 9999, "ioas": ioas.id}[wrong]
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=flags, fault_id=number)
    viommu.destroy()


@rule("hwpt_alloc.viommu.unknown_type")
@pytest.mark.parametrize("data_type", [1, 0xFFFF_FFFF], ids=hex)
def test_viommu_with_a_type_of_another_driver(expected, iommufd, mock_device, viommu, data_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, UserData(data_type, bytes(4)))


@rule("hwpt_alloc.viommu.data_length")
def test_viommu_with_data_of_the_first_length(iommufd, mock_device, viommu, hwpt_type):
    data = UserData(hwpt_type.number, (9).to_bytes(4, "little"))
    iommufd.hwpt_alloc(mock_device, viommu, data).check_iotlb(0, 9)


@rule("hwpt_alloc.viommu.data_length.up_to_the_struct")
@pytest.mark.parametrize("length", [5, 8])
def test_viommu_with_data_up_to_the_struct_as_known(
    expected, iommufd, mock_device, viommu, hwpt_type, length
):
    data = UserData(hwpt_type.number, (9).to_bytes(length, "little"))
    with expected:
        made = iommufd.hwpt_alloc(mock_device, viommu, data)
    if expected.ok:
        made.check_iotlb(0, 9)


@rule("hwpt_alloc.viommu.data_length_wrong")
@pytest.mark.parametrize("length", [1, 3, 9, 0xFFFF_FFFF])
def test_viommu_with_data_of_a_wrong_length(
    expected, iommufd, mock_device, viommu, hwpt_type, length
):
    data = UserData(hwpt_type.number, bytes(16))
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, data, data_len=length)


@rule("hwpt_alloc.viommu.data_unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "straddling"])
def test_viommu_with_data_that_cannot_be_read(
    expected, iommufd, mock_device, viommu, hwpt_type, unmapped, where
):
    at = {"null": 0, "unmapped": unmapped, "straddling": unmapped - 2}[where]
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), data_uptr=at)
    viommu.destroy()


@rule("hwpt_alloc.viommu.nested_is_no_parent")
def test_hwpt_of_a_viommu_is_no_parent(expected, iommufd, mock_device, viommu, hwpt_type):
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())
    with expected:
        iommufd.hwpt_alloc(mock_device, made, hwpt_type.valid())


@rule("hwpt_alloc.viommu.destroyed")
def test_pt_id_of_a_destroyed_viommu(expected, iommufd, mock_device, viommu, hwpt_type):
    viommu.destroy()
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())


@rule("hwpt_alloc.viommu.tombstone")
def test_pt_id_of_a_vdevice_whose_device_is_gone(
    expected, iommufd, mock_devices, vdevice_id, mock_device, other_ioas, hwpt_type
):
    other = mock_devices(other_ioas)
    mock_device.destroy()
    with expected:
        iommufd.hwpt_alloc(other, vdevice_id, hwpt_type.valid())


@rule("hwpt_alloc.viommu.unwritable")
def test_struct_cannot_be_written_with_a_viommu(
    expected, iommufd, mock_device, viommu, hwpt_type, buffer, readonly, uapi
):
    data = hwpt_type.valid()
    given = uapi.struct(
        "iommu_hwpt_alloc",
        size=uapi.sizeof("iommu_hwpt_alloc"),
        dev_id=mock_device.id,
        pt_id=viommu.id,
        data_type=data.type,
        data_len=len(data.content),
        data_uptr=buffer.write(data.content),
    )
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given)))
    viommu.destroy()
