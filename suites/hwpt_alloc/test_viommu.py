# SPDX-License-Identifier: GPL-2.0-only
"""Nested HWPTs made from a vIOMMU, on kernels that have it."""

from __future__ import annotations

from errno import EBUSY, EFAULT, EINVAL, ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import UserData

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
        Viommu,
    )
    from pytest_iommufd.uapi import Uapi


@rule("hwpt_alloc.viommu.plain")
def test_viommu_gives_a_nested_hwpt(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType
) -> None:
    """A vIOMMU and data: a nested HWPT of that data (iommufd_viommu_alloc_hwpt_nested)."""
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(iotlb=0xABC))
    for entry in range(4):
        made.check_iotlb(entry, 0xABC)


@rule("hwpt_alloc.viommu.other_device")
def test_viommu_gives_a_hwpt_for_another_device(
    iommufd: Context,
    mock_devices: Callable[..., MockDevice],
    other_ioas: Ioas,
    viommu: Viommu,
    hwpt_type: HwptType,
) -> None:
    """Any device of the vIOMMU's IOMMU will do (iommufd_hwpt_alloc)."""
    other = mock_devices(other_ioas)
    iommufd.hwpt_alloc(other, viommu, hwpt_type.valid(iotlb=2)).check_iotlb(0, 2)


@rule("hwpt_alloc.viommu.holds")
def test_hwpt_holds_its_viommu(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    viommu: Viommu,
    hwpt_type: HwptType,
) -> None:
    """The vIOMMU is EBUSY while a HWPT of it lives, the parent while the vIOMMU does."""
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())
    for held in (viommu, parent_hwpt):
        with raises_errno(EBUSY):
            held.destroy()
    made.destroy()
    viommu.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.viommu.no_data")
@pytest.mark.parametrize("size", [24, 48])
def test_viommu_without_data(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, size: int
) -> None:
    """A HWPT of a vIOMMU needs data: EOPNOTSUPP (iommufd_viommu_alloc_hwpt_nested)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, size=size)


@rule("hwpt_alloc.viommu.no_data_before_memory")
@pytest.mark.usefixtures("failing_slab")
def test_viommu_without_data_is_found_before_anything_is_made(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu
) -> None:
    """The core refuses missing data before it allocates, not the driver: EOPNOTSUPP."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, fail_nth=3)


@rule("hwpt_alloc.viommu.flags")
@pytest.mark.parametrize("bit", [0, 1, 4, 5, 15, 31])
def test_viommu_with_a_wrong_flag(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType, bit: int
) -> None:
    """Flags of paging HWPTs and unknown ones: EOPNOTSUPP (iommufd_viommu_alloc_hwpt_nested)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=1 << bit)


@rule("hwpt_alloc.viommu.flags_before_memory")
@pytest.mark.parametrize("bit", [0, 1, 4, 31])
@pytest.mark.usefixtures("failing_slab")
def test_viommu_with_a_wrong_flag_is_found_before_anything_is_made(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    bit: int,
) -> None:
    """The core refuses a flag before it allocates, not the driver: EOPNOTSUPP."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=1 << bit, fail_nth=3)


@rule("hwpt_alloc.viommu.alloc_pasid")
def test_viommu_with_pasid_flag(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType, alloc_pasid: int
) -> None:
    """ALLOC_PASID is for HWPTs of a vIOMMU too (iommufd_viommu_alloc_hwpt_nested)."""
    data = hwpt_type.valid(iotlb=8)
    iommufd.hwpt_alloc(mock_device, viommu, data, flags=alloc_pasid).check_iotlb(0, 8)


@rule("hwpt_alloc.viommu.fault_id")
def test_viommu_with_a_fault_queue(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    fault_queue: FaultQueue,
    uapi: Uapi,
) -> None:
    """A HWPT of a vIOMMU may have a fault queue, which it holds (iommufd_hwpt_alloc)."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    made = iommufd.hwpt_alloc(
        mock_device, viommu, hwpt_type.valid(), flags=flags, fault_id=fault_queue
    )
    fault_queue.close()
    with raises_errno(EBUSY):
        fault_queue.destroy()
    made.destroy()
    fault_queue.destroy()


@rule("hwpt_alloc.viommu.fault_id_unknown")
@pytest.mark.parametrize("wrong", ["zero", "never_used", "ioas"])
def test_viommu_with_a_wrong_fault_queue(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    ioas: Ioas,
    uapi: Uapi,
    wrong: str,
) -> None:
    """A fault_id that is no fault queue's, with a vIOMMU: ENOENT; the vIOMMU is not held."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    number = {"zero": 0, "never_used": 9999, "ioas": ioas.id}[wrong]
    with raises_errno(ENOENT):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), flags=flags, fault_id=number)
    viommu.destroy()


@rule("hwpt_alloc.viommu.unknown_type")
@pytest.mark.parametrize("data_type", [1, 2, 3, 0xFFFF_FFFF], ids=hex)
def test_viommu_with_a_type_of_another_driver(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, data_type: int
) -> None:
    """A data_type that the driver does not know, with a vIOMMU: EOPNOTSUPP (mock driver)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, UserData(data_type, bytes(4)))


@rule("hwpt_alloc.viommu.data_length")
@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 16, 0xFFFF_FFFF])
def test_viommu_with_data_of_each_length(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    uapi: Uapi,
    length: int,
) -> None:
    """Data from its first version's size up to the struct, else EINVAL (mock driver)."""
    data = UserData(hwpt_type.number, (9).to_bytes(16, "little"))
    if 4 <= length <= uapi.sizeof("iommu_hwpt_selftest"):
        iommufd.hwpt_alloc(mock_device, viommu, data, data_len=length).check_iotlb(0, 9)
    else:
        with raises_errno(EINVAL):
            iommufd.hwpt_alloc(mock_device, viommu, data, data_len=length)


@rule("hwpt_alloc.viommu.data_unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "straddling"])
def test_viommu_with_data_that_cannot_be_read(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    unmapped: int,
    where: str,
) -> None:
    """A data_uptr that cannot be read, with a vIOMMU: EFAULT; the vIOMMU is not held."""
    at = {"null": 0, "unmapped": unmapped, "straddling": unmapped - 2}[where]
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), data_uptr=at)
    viommu.destroy()


@rule("hwpt_alloc.viommu.nested_is_no_parent")
def test_hwpt_of_a_viommu_is_no_parent(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType
) -> None:
    """A nested HWPT of a vIOMMU is no parent either: EINVAL (iommufd_hwpt_alloc)."""
    made = iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, made, hwpt_type.valid())


@rule("hwpt_alloc.viommu.destroyed")
def test_pt_id_of_a_destroyed_viommu(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType
) -> None:
    """The pt_id of a vIOMMU that was destroyed: EINVAL (iommufd_hwpt_alloc)."""
    viommu.destroy()
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid())


@rule("hwpt_alloc.viommu.tombstone")
def test_pt_id_of_a_vdevice_whose_device_is_gone(
    iommufd: Context,
    mock_devices: Callable[..., MockDevice],
    vdevice_id: int,
    mock_device: MockDevice,
    other_ioas: Ioas,
    hwpt_type: HwptType,
) -> None:
    """The id of a vDEVICE whose device was destroyed stays taken, by nothing: EINVAL."""
    other = mock_devices(other_ioas)
    mock_device.destroy()
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(other, vdevice_id, hwpt_type.valid())


@rule("hwpt_alloc.viommu.unwritable")
def test_struct_cannot_be_written_with_a_viommu(
    iommufd: Context,
    mock_device: MockDevice,
    viommu: Viommu,
    hwpt_type: HwptType,
    buffer: Buffer,
    readonly: Callable[[bytes], int],
    uapi: Uapi,
) -> None:
    """A struct that cannot take the id, with a vIOMMU: EFAULT; the vIOMMU is not held."""
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
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given)))
    viommu.destroy()
