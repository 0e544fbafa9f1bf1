# SPDX-License-Identifier: GPL-2.0-only
"""Attaching devices to page tables, and detaching them."""

from __future__ import annotations

from errno import EBUSY
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Ioas, VfioDevice
    from pytest_iommufd.uapi import Uapi

NO_ID = 0xDEAD
PASID = 1  # the flag, of both structs
NULL = 0


@pytest.fixture
def unwritable_attach(
    vfio_device: VfioDevice, uapi: Uapi, readonly: Callable[[bytes], int]
) -> Callable[[Ioas], None]:
    """Attaches the device by a struct that cannot be written."""

    def call(pt: Ioas) -> None:
        kind = "vfio_device_attach_iommufd_pt"
        given = uapi.struct(kind, argsz=uapi.sizeof(kind), pt_id=pt.id)
        vfio_device.ioctl_pointer("VFIO_DEVICE_ATTACH_IOMMUFD_PT", readonly(bytes(given)))

    return call


# ---- attach ----


@rule("vfio_device.attach.ioas")
def test_ioas(expected, vfio_device, ioas, iommufd):
    with expected:
        hwpt = vfio_device.attach_iommufd_pt(ioas)
    assert hwpt not in (ioas.id, vfio_device.id)
    with raises_errno(EBUSY):
        iommufd.destroy(hwpt)


@rule("vfio_device.attach.hwpt")
def test_hwpt(expected, vfio_device, device_hwpt):
    with expected:
        assert vfio_device.attach_iommufd_pt(device_hwpt) == device_hwpt.id


@rule("vfio_device.attach.argsz")
@pytest.mark.parametrize("argsz", [0, 4, 8, 11])
def test_argsz_too_short(expected, vfio_device, ioas, argsz):
    with expected:
        vfio_device.attach_iommufd_pt(ioas, argsz=argsz)
    ioas.destroy()


@rule("vfio_device.attach.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_unknown_flag(expected, vfio_device, ioas, flags):
    with expected:
        vfio_device.attach_iommufd_pt(ioas, flags=flags)
    ioas.destroy()


@rule("vfio_device.attach.pointer")
def test_unreadable_struct(expected, vfio_device, unmapped):
    for pointer in (NULL, unmapped, unmapped - 8):
        with expected:
            vfio_device.ioctl_pointer("VFIO_DEVICE_ATTACH_IOMMUFD_PT", pointer)


@rule("vfio_device.attach.pt_id")
@pytest.mark.parametrize("pt", [0, NO_ID, 0xFFFF_FFFF], ids=hex)
def test_id_of_nothing(expected, vfio_device, pt):
    with expected:
        vfio_device.attach_iommufd_pt(pt)


@rule("vfio_device.attach.pt_id.other_type")
def test_id_of_another_type(expected, vfio_device, fault_queue):
    for other in (vfio_device, fault_queue):
        with expected:
            vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.pt_id.other_context")
def test_ioas_of_another_context(expected, vfio_device, other_iommufd):
    for _ in range(4):
        other = other_iommufd.ioas_alloc()
    with expected:
        vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.hwpt.other_driver")
def test_hwpt_of_another_driver(expected, vfio_device, mock_device, hwpt):
    for other in (hwpt, mock_device.hwpt):
        with expected:
            vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.ioas.other_driver")
def test_ioas_with_a_mock_device(expected, vfio_device, mock_device, ioas):
    with expected:
        own = vfio_device.attach_iommufd_pt(ioas)
    assert own != mock_device.hwpt.id


@rule("vfio_device.attach.ioas.shared")
def test_two_devices(expected, attached, other_vfio_device, ioas):
    with expected:
        shared = other_vfio_device.attach_iommufd_pt(ioas)
    assert attached.attach_iommufd_pt(ioas) == shared


@rule("vfio_device.attach.again")
def test_again(expected, vfio_device, ioas):
    hwpt = vfio_device.attach_iommufd_pt(ioas)
    with expected:
        assert vfio_device.attach_iommufd_pt(ioas) == hwpt
    with expected:
        assert vfio_device.attach_iommufd_pt(hwpt) == hwpt
    vfio_device.detach_iommufd_pt()
    ioas.destroy()


@rule("vfio_device.attach.replace")
def test_replace(expected, attached, ioas, other_ioas):
    with expected:
        attached.attach_iommufd_pt(other_ioas)
    ioas.destroy()
    with raises_errno(EBUSY):
        other_ioas.destroy()


@rule("vfio_device.attach.replace.pt_id")
def test_replace_by_nothing(expected, attached, ioas):
    with expected:
        attached.attach_iommufd_pt(NO_ID)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.attach.unwritable")
def test_unwritable(expected, ioas, unwritable_attach):
    with expected:
        unwritable_attach(ioas)
    ioas.destroy()


@rule("vfio_device.attach.unwritable.replace")
def test_unwritable_replace(expected, attached, ioas, other_ioas, unwritable_attach):
    with expected:
        unwritable_attach(other_ioas)
    ioas.destroy()
    other_ioas.destroy()
    attached.detach_iommufd_pt()


@rule("vfio_device.attach.busy")
def test_busy(expected, vfio_device, device_hwpt, ioas):
    vfio_device.attach_iommufd_pt(device_hwpt)
    for held in (device_hwpt, ioas):
        with expected:
            held.destroy()


# ---- PASIDs ----


@rule("vfio_device.attach.pasid.flag")
def test_pasid_without_alloc_pasid(expected, vfio_device, ioas, device_hwpt, uapi):
    pasid = {"pasid": 1} if uapi.has("VFIO_DEVICE_ATTACH_PASID") else {}
    for pt in (ioas, device_hwpt):
        with expected:
            vfio_device.attach_iommufd_pt(pt, flags=PASID, **pasid)


@rule("vfio_device.attach.pasid.argsz")
@pytest.mark.parametrize("argsz", [12, 15])
def test_pasid_argsz_too_short(expected, vfio_device, ioas, argsz):
    with expected:
        vfio_device.attach_iommufd_pt(ioas, flags=PASID, pasid=1, argsz=argsz)


@rule("vfio_device.attach.pasid.none")
def test_pasid_of_a_device_without(expected, iommufd, vfio_device, ioas, uapi):
    hwpt = iommufd.hwpt_alloc(vfio_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)
    assert vfio_device.get_hw_info().out_max_pasid_log2 == 0
    with expected:
        vfio_device.attach_iommufd_pt(hwpt, flags=PASID, pasid=1)
    with raises_errno(EBUSY):
        hwpt.destroy()
    vfio_device.detach_iommufd_pt(flags=PASID, pasid=1)
    hwpt.destroy()


# ---- detach ----


@rule("vfio_device.detach")
def test_detach(expected, vfio_device, device_hwpt, ioas):
    vfio_device.attach_iommufd_pt(device_hwpt)
    with expected:
        vfio_device.detach_iommufd_pt()
    device_hwpt.destroy()
    ioas.destroy()


@rule("vfio_device.detach.unattached")
def test_detach_twice(expected, vfio_device, ioas):
    with expected:
        vfio_device.detach_iommufd_pt()
    vfio_device.attach_iommufd_pt(ioas)
    for _ in range(2):
        with expected:
            vfio_device.detach_iommufd_pt()
    ioas.destroy()


@rule("vfio_device.detach.argsz")
@pytest.mark.parametrize("argsz", [0, 4, 7])
def test_detach_argsz_too_short(expected, attached, ioas, argsz):
    with expected:
        attached.detach_iommufd_pt(argsz=argsz)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_detach_unknown_flag(expected, attached, ioas, flags):
    with expected:
        attached.detach_iommufd_pt(flags=flags)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.pointer")
def test_detach_unreadable_struct(expected, attached, unmapped):
    for pointer in (NULL, unmapped, unmapped - 4):
        with expected:
            attached.ioctl_pointer("VFIO_DEVICE_DETACH_IOMMUFD_PT", pointer)


@rule("vfio_device.detach.pasid")
def test_detach_pasid(expected, attached, ioas):
    with expected:
        attached.detach_iommufd_pt(flags=PASID, pasid=1)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.pasid.argsz")
@pytest.mark.parametrize("argsz", [8, 11])
def test_detach_pasid_argsz_too_short(expected, attached, argsz):
    with expected:
        attached.detach_iommufd_pt(flags=PASID, pasid=1, argsz=argsz)


# ---- devices that share an IOMMU group ----


@rule("vfio_device.group.shared")
def test_group(expected, group_mates, group_hwpt):
    for device in group_mates:
        with expected:
            assert device.attach_iommufd_pt(group_hwpt) == group_hwpt.id


@rule("vfio_device.group.other_ioas")
def test_group_and_another_ioas(expected, group_mates, ioas, other_ioas):
    first, second = group_mates
    first.attach_iommufd_pt(ioas)
    with expected:
        second.attach_iommufd_pt(other_ioas)
    other_ioas.destroy()


@rule("vfio_device.group.other_hwpt")
def test_group_and_another_hwpt(expected, group_mates, group_hwpt, ioas):
    first, second = group_mates
    first.attach_iommufd_pt(ioas)
    with expected:
        second.attach_iommufd_pt(group_hwpt)
    group_hwpt.destroy()


@rule("vfio_device.group.stays")
def test_group_of_which_one_leaves(expected, group_mates, ioas):
    for device in group_mates:
        device.attach_iommufd_pt(ioas)
    group_mates[0].detach_iommufd_pt()
    with expected:
        ioas.destroy()
    group_mates[1].close()
    ioas.destroy()


@rule("vfio_device.group.replace")
def test_group_replace(expected, group_mates, ioas, other_ioas):
    for device in group_mates:
        device.attach_iommufd_pt(ioas)
    with expected:
        group_mates[1].attach_iommufd_pt(other_ioas)
    ioas.destroy()
    for device in group_mates:
        with raises_errno(EBUSY):
            other_ioas.destroy()
        device.detach_iommufd_pt()
    other_ioas.destroy()


@rule("vfio_device.hwpt_alloc.two_devices")
def test_hwpt_for_two_devices(expected, vfio_device, other_vfio_device, device_hwpt):
    for device in (vfio_device, other_vfio_device):
        with expected:
            device.attach_iommufd_pt(device_hwpt)
