# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_HWPT_ALLOC and IOMMU_VIOMMU_ALLOC: what the drivers of VT-d and AMD answer."""

from __future__ import annotations

from errno import ENODEV

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.uapi.spare import spare_flags

NO_ID = 0xDEAD
NEST_PARENT, DIRTY_TRACKING, FAULT_ID, PASID = 1, 2, 4, 8
VTD_S1, SMMUV3, AMD_GUEST = 1, 2, 3
TYPES = [VTD_S1, SMMUV3, AMD_GUEST, 4, NO_ID]
VIOMMU_TYPES = [1, 2, NO_ID, 0xFFFF_FFFF]


# ---- flags ----


@rule("vfio_device.hwpt_alloc")
def test_hwpt(expected, iommufd, vfio_device, ioas):
    with expected:
        hwpt = iommufd.hwpt_alloc(vfio_device, ioas)
    hwpt.destroy()
    ioas.destroy()


@rule("vfio_device.hwpt_alloc.flags")
def test_unknown_flag(expected, iommufd, vfio_device, ioas, uapi):
    for flag in spare_flags(uapi, "iommu_hwpt_alloc.flags"):
        with expected:
            iommufd.hwpt_alloc(vfio_device, ioas, flags=flag)


@rule("vfio_device.hwpt_alloc.nest_parent")
def test_nest_parent(expected, iommufd, vfio_device, ioas):
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas, flags=NEST_PARENT)


@rule("vfio_device.hwpt_alloc.dirty_tracking")
def test_dirty_tracking(expected, iommufd, vfio_device, ioas):
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas, flags=DIRTY_TRACKING)


@rule("vfio_device.hwpt_alloc.pasid")
def test_pasid(expected, iommufd, vfio_device, ioas):
    with expected:
        hwpt = iommufd.hwpt_alloc(vfio_device, ioas, flags=PASID)
    if expected.ok:
        vfio_device.attach_iommufd_pt(hwpt)


@rule("vfio_device.hwpt_alloc.pasid_and_nest_parent")
def test_pasid_and_nest_parent(expected, iommufd, vfio_device, ioas):
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas, flags=PASID | NEST_PARENT)


# ---- a fault queue ----


@rule("vfio_device.hwpt_alloc.fault_id")
def test_fault_queue(expected, iommufd, vfio_device, ioas, fault_queue):
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas, flags=FAULT_ID, fault_id=fault_queue)


@rule("vfio_device.hwpt_alloc.fault_id.unknown")
def test_unknown_fault_queue(expected, iommufd, vfio_device, ioas):
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas, flags=FAULT_ID, fault_id=NO_ID)
    ioas.destroy()


@rule("vfio_device.hwpt_alloc.fault_id.attach")
def test_attach_without_page_requests(expected, vfio_device, faulting_hwpt):
    with expected:
        vfio_device.attach_iommufd_pt(faulting_hwpt)


@rule("vfio_device.hwpt_alloc.fault_id.after_refusal")
def test_attach_after_refusal(expected, vfio_device, faulting_hwpt, ioas, other_ioas):
    with raises_errno(ENODEV):
        vfio_device.attach_iommufd_pt(faulting_hwpt)
    faulting_hwpt.destroy()
    ioas.destroy()
    with expected:
        vfio_device.attach_iommufd_pt(other_ioas)


# ---- data, parents ----


@rule("vfio_device.hwpt_alloc.data.ioas")
@pytest.mark.parametrize("data_type", TYPES, ids=hex)
def test_data_with_an_ioas(expected, iommufd, vfio_device, ioas, unmapped, data_type):
    for length in (1, 16, 24, 32, 4096):
        for pointer in (iommufd.put(bytes(length)), unmapped):
            with expected:
                iommufd.hwpt_alloc(
                    vfio_device, ioas, data_type=data_type, data_len=length, data_uptr=pointer
                )


@rule("vfio_device.hwpt_alloc.parent")
@pytest.mark.parametrize("data_type", TYPES, ids=hex)
def test_parent_without_nest_parent(expected, iommufd, vfio_device, device_hwpt, ioas, data_type):
    data = iommufd.put(bytes(24))
    automatic = vfio_device.attach_iommufd_pt(ioas)
    for parent in (device_hwpt.id, automatic):
        with expected:
            iommufd.hwpt_alloc(
                vfio_device, parent, data_type=data_type, data_len=24, data_uptr=data
            )


@rule("vfio_device.hwpt_alloc.parent.other_driver")
def test_parent_of_another_driver(expected, iommufd, vfio_device, parent_hwpt):
    data = iommufd.put(bytes(24))
    for data_type in TYPES:
        with expected:
            iommufd.hwpt_alloc(
                vfio_device, parent_hwpt, data_type=data_type, data_len=24, data_uptr=data
            )


@rule("vfio_device.hwpt_alloc.dev_id.closed")
def test_device_whose_file_was_closed(expected, iommufd, vfio_device, ioas):
    vfio_device.close()
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas)


# ---- dirty tracking without the flag ----


@rule("vfio_device.dirty.set")
def test_set_dirty_tracking(expected, device_hwpt):
    for enable in (True, False):
        with expected:
            device_hwpt.set_dirty_tracking(enable=enable)


@rule("vfio_device.dirty.get")
def test_get_dirty_bitmap(expected, device_hwpt, ioas, buffer, page_size):
    iova = ioas.map(buffer)
    bitmap = device_hwpt.context.put(bytes(8))
    with expected:
        device_hwpt.get_dirty_bitmap(iova, buffer.size, page_size, bitmap)


# ---- vIOMMUs ----


@rule("vfio_device.viommu.vtd")
def test_vtd_has_no_viommu(expected, iommufd, vfio_device, device_hwpt):
    for kind in VIOMMU_TYPES:
        for parent in (device_hwpt.id, NO_ID):
            with expected:
                iommufd.viommu_alloc(vfio_device, parent, type=kind)


@rule("vfio_device.viommu.default")
def test_viommu_of_the_default_type(expected, iommufd, vfio_device, device_hwpt):
    with expected:
        iommufd.viommu_alloc(vfio_device, device_hwpt, type=0)


@rule("vfio_device.viommu.amd.parent")
def test_amd_viommu_without_nest_parent(expected, iommufd, vfio_device, device_hwpt):
    for kind in VIOMMU_TYPES:
        with expected:
            iommufd.viommu_alloc(vfio_device, device_hwpt, type=kind)


@rule("vfio_device.viommu.amd.type")
@pytest.mark.parametrize("kind", VIOMMU_TYPES, ids=hex)
def test_amd_viommu_type(expected, iommufd, vfio_device, kind):
    with expected:
        iommufd.viommu_alloc(vfio_device, NO_ID, type=kind)


@rule("vfio_device.dirty.tracked")
def test_dirty_tracking_of_clean_pages(expected, iommufd, vfio_device, ioas, buffer, page_size):
    iova = ioas.map(buffer)
    hwpt = iommufd.hwpt_alloc(vfio_device, ioas, flags=DIRTY_TRACKING)
    vfio_device.attach_iommufd_pt(hwpt)
    bitmap = iommufd.put(bytes(8))
    with expected:
        hwpt.set_dirty_tracking()
    with expected:
        hwpt.get_dirty_bitmap(iova, buffer.size, page_size, bitmap)
    with expected:
        hwpt.set_dirty_tracking(enable=False)
    assert iommufd.process.read(bitmap, 8) == bytes(8)
