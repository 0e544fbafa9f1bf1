# SPDX-License-Identifier: GPL-2.0-only
"""Attaching devices to page tables, and detaching them."""

from __future__ import annotations

from errno import EBUSY
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, FaultQueue, Hwpt, Ioas, MockDevice, VfioDevice
    from pytest_iommufd.rules.expectation import Expectation
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
        vfio_device.ask("VFIO_DEVICE_ATTACH_IOMMUFD_PT", readonly(bytes(given)))

    return call


# ---- attach ----


@rule("vfio_device.attach.ioas")
def test_ioas(expected: Expectation, vfio_device: VfioDevice, ioas: Ioas, iommufd: Context) -> None:
    with expected:
        hwpt = vfio_device.attach_iommufd_pt(ioas)
    assert hwpt not in (ioas.id, vfio_device.id)
    with raises_errno(EBUSY):
        iommufd.destroy(hwpt)


@rule("vfio_device.attach.hwpt")
def test_hwpt(expected: Expectation, vfio_device: VfioDevice, device_hwpt: Hwpt) -> None:
    with expected:
        assert vfio_device.attach_iommufd_pt(device_hwpt) == device_hwpt.id


@rule("vfio_device.attach.argsz")
@pytest.mark.parametrize("argsz", [0, 4, 8, 11])
def test_argsz_too_short(
    expected: Expectation, vfio_device: VfioDevice, ioas: Ioas, argsz: int
) -> None:
    with expected:
        vfio_device.attach_iommufd_pt(ioas, argsz=argsz)
    ioas.destroy()


@rule("vfio_device.attach.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_unknown_flag(
    expected: Expectation, vfio_device: VfioDevice, ioas: Ioas, flags: int
) -> None:
    with expected:
        vfio_device.attach_iommufd_pt(ioas, flags=flags)
    ioas.destroy()


@rule("vfio_device.attach.pointer")
def test_unreadable_struct(expected: Expectation, vfio_device: VfioDevice, unmapped: int) -> None:
    for pointer in (NULL, unmapped, unmapped - 8):
        with expected:
            vfio_device.ask("VFIO_DEVICE_ATTACH_IOMMUFD_PT", pointer)


@rule("vfio_device.attach.pt_id")
@pytest.mark.parametrize("pt", [0, NO_ID, 0xFFFF_FFFF], ids=hex)
def test_id_of_nothing(expected: Expectation, vfio_device: VfioDevice, pt: int) -> None:
    with expected:
        vfio_device.attach_iommufd_pt(pt)


@rule("vfio_device.attach.pt_id.other_type")
def test_id_of_another_type(
    expected: Expectation, vfio_device: VfioDevice, fault_queue: FaultQueue
) -> None:
    for other in (vfio_device, fault_queue):
        with expected:
            vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.pt_id.other_context")
def test_ioas_of_another_context(
    expected: Expectation, vfio_device: VfioDevice, other_iommufd: Context
) -> None:
    for _ in range(4):
        other = other_iommufd.ioas_alloc()
    with expected:
        vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.hwpt.other_driver")
def test_hwpt_of_another_driver(
    expected: Expectation, vfio_device: VfioDevice, mock_device: MockDevice, hwpt: Hwpt
) -> None:
    for other in (hwpt, mock_device.hwpt):
        with expected:
            vfio_device.attach_iommufd_pt(other)


@rule("vfio_device.attach.ioas.other_driver")
def test_ioas_with_a_mock_device(
    expected: Expectation, vfio_device: VfioDevice, mock_device: MockDevice, ioas: Ioas
) -> None:
    with expected:
        own = vfio_device.attach_iommufd_pt(ioas)
    assert own != mock_device.hwpt.id


@rule("vfio_device.attach.ioas.shared")
def test_two_devices(
    expected: Expectation, attached: VfioDevice, other_vfio_device: VfioDevice, ioas: Ioas
) -> None:
    with expected:
        shared = other_vfio_device.attach_iommufd_pt(ioas)
    assert attached.attach_iommufd_pt(ioas) == shared


@rule("vfio_device.attach.again")
def test_again(expected: Expectation, vfio_device: VfioDevice, ioas: Ioas) -> None:
    hwpt = vfio_device.attach_iommufd_pt(ioas)
    with expected:
        assert vfio_device.attach_iommufd_pt(ioas) == hwpt
        assert vfio_device.attach_iommufd_pt(hwpt) == hwpt
    vfio_device.detach_iommufd_pt()
    ioas.destroy()


@rule("vfio_device.attach.replace")
def test_replace(expected: Expectation, attached: VfioDevice, ioas: Ioas, other_ioas: Ioas) -> None:
    with expected:
        attached.attach_iommufd_pt(other_ioas)
    ioas.destroy()
    with raises_errno(EBUSY):
        other_ioas.destroy()


@rule("vfio_device.attach.replace.pt_id")
def test_replace_by_nothing(expected: Expectation, attached: VfioDevice, ioas: Ioas) -> None:
    with expected:
        attached.attach_iommufd_pt(NO_ID)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.attach.unwritable")
def test_unwritable(
    expected: Expectation, ioas: Ioas, unwritable_attach: Callable[[Ioas], None]
) -> None:
    with expected:
        unwritable_attach(ioas)
    ioas.destroy()


@rule("vfio_device.attach.unwritable.replace")
def test_unwritable_replace(
    expected: Expectation,
    attached: VfioDevice,
    ioas: Ioas,
    other_ioas: Ioas,
    unwritable_attach: Callable[[Ioas], None],
) -> None:
    with expected:
        unwritable_attach(other_ioas)
    ioas.destroy()
    other_ioas.destroy()
    attached.detach_iommufd_pt()


@rule("vfio_device.attach.busy")
def test_busy(
    expected: Expectation, vfio_device: VfioDevice, device_hwpt: Hwpt, ioas: Ioas
) -> None:
    vfio_device.attach_iommufd_pt(device_hwpt)
    for held in (device_hwpt, ioas):
        with expected:
            held.destroy()


# ---- PASIDs ----


@rule("vfio_device.attach.pasid.flag")
def test_pasid_without_alloc_pasid(
    expected: Expectation,
    vfio_device: VfioDevice,
    ioas: Ioas,
    device_hwpt: Hwpt,
    uapi: Uapi,
) -> None:
    pasid = {"pasid": 1} if uapi.has("VFIO_DEVICE_ATTACH_PASID") else {}
    for pt in (ioas, device_hwpt):
        with expected:
            vfio_device.attach_iommufd_pt(pt, flags=PASID, **pasid)


@rule("vfio_device.attach.pasid.argsz")
@pytest.mark.parametrize("argsz", [12, 15])
def test_pasid_argsz_too_short(
    expected: Expectation, vfio_device: VfioDevice, ioas: Ioas, argsz: int
) -> None:
    with expected:
        vfio_device.attach_iommufd_pt(ioas, flags=PASID, pasid=1, argsz=argsz)


@rule("vfio_device.attach.pasid.none")
def test_pasid_of_a_device_without(
    expected: Expectation, vfio_device: VfioDevice, ioas: Ioas, uapi: Uapi
) -> None:
    hwpt = vfio_device.context.hwpt_alloc(vfio_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)
    assert vfio_device.get_hw_info().out_max_pasid_log2 == 0
    with expected:
        vfio_device.attach_iommufd_pt(hwpt, flags=PASID, pasid=1)
    with raises_errno(EBUSY):
        hwpt.destroy()
    vfio_device.detach_iommufd_pt(flags=PASID, pasid=1)
    hwpt.destroy()


# ---- detach ----


@rule("vfio_device.detach")
def test_detach(
    expected: Expectation, vfio_device: VfioDevice, device_hwpt: Hwpt, ioas: Ioas
) -> None:
    vfio_device.attach_iommufd_pt(device_hwpt)
    with expected:
        vfio_device.detach_iommufd_pt()
    device_hwpt.destroy()
    ioas.destroy()


@rule("vfio_device.detach.unattached")
def test_detach_twice(expected: Expectation, vfio_device: VfioDevice, ioas: Ioas) -> None:
    with expected:
        vfio_device.detach_iommufd_pt()
    vfio_device.attach_iommufd_pt(ioas)
    for _ in range(2):
        with expected:
            vfio_device.detach_iommufd_pt()
    ioas.destroy()


@rule("vfio_device.detach.argsz")
@pytest.mark.parametrize("argsz", [0, 4, 7])
def test_detach_argsz_too_short(
    expected: Expectation, attached: VfioDevice, ioas: Ioas, argsz: int
) -> None:
    with expected:
        attached.detach_iommufd_pt(argsz=argsz)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_detach_unknown_flag(
    expected: Expectation, attached: VfioDevice, ioas: Ioas, flags: int
) -> None:
    with expected:
        attached.detach_iommufd_pt(flags=flags)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.pointer")
def test_detach_unreadable_struct(
    expected: Expectation, attached: VfioDevice, unmapped: int
) -> None:
    for pointer in (NULL, unmapped, unmapped - 4):
        with expected:
            attached.ask("VFIO_DEVICE_DETACH_IOMMUFD_PT", pointer)


@rule("vfio_device.detach.pasid")
def test_detach_pasid(expected: Expectation, attached: VfioDevice, ioas: Ioas) -> None:
    with expected:
        attached.detach_iommufd_pt(flags=PASID, pasid=1)
    with raises_errno(EBUSY):
        ioas.destroy()


@rule("vfio_device.detach.pasid.argsz")
@pytest.mark.parametrize("argsz", [8, 11])
def test_detach_pasid_argsz_too_short(
    expected: Expectation, attached: VfioDevice, argsz: int
) -> None:
    with expected:
        attached.detach_iommufd_pt(flags=PASID, pasid=1, argsz=argsz)


# ---- devices that share an IOMMU group ----


@rule("vfio_device.group.shared")
def test_group(
    expected: Expectation, group_mates: tuple[VfioDevice, VfioDevice], group_hwpt: Hwpt
) -> None:
    for device in group_mates:
        with expected:
            assert device.attach_iommufd_pt(group_hwpt) == group_hwpt.id


@rule("vfio_device.group.other_ioas")
def test_group_and_another_ioas(
    expected: Expectation,
    group_mates: tuple[VfioDevice, VfioDevice],
    ioas: Ioas,
    other_ioas: Ioas,
) -> None:
    first, second = group_mates
    first.attach_iommufd_pt(ioas)
    with expected:
        second.attach_iommufd_pt(other_ioas)
    other_ioas.destroy()


@rule("vfio_device.group.other_hwpt")
def test_group_and_another_hwpt(
    expected: Expectation,
    group_mates: tuple[VfioDevice, VfioDevice],
    group_hwpt: Hwpt,
    ioas: Ioas,
) -> None:
    first, second = group_mates
    first.attach_iommufd_pt(ioas)
    with expected:
        second.attach_iommufd_pt(group_hwpt)
    group_hwpt.destroy()


@rule("vfio_device.group.stays")
def test_group_of_which_one_leaves(
    expected: Expectation, group_mates: tuple[VfioDevice, VfioDevice], ioas: Ioas
) -> None:
    for device in group_mates:
        device.attach_iommufd_pt(ioas)
    group_mates[0].detach_iommufd_pt()
    with expected:
        ioas.destroy()
    group_mates[1].close()
    ioas.destroy()


@rule("vfio_device.group.replace")
def test_group_replace(
    expected: Expectation,
    group_mates: tuple[VfioDevice, VfioDevice],
    ioas: Ioas,
    other_ioas: Ioas,
) -> None:
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
def test_hwpt_for_two_devices(
    expected: Expectation,
    vfio_device: VfioDevice,
    other_vfio_device: VfioDevice,
    device_hwpt: Hwpt,
) -> None:
    for device in (vfio_device, other_vfio_device):
        with expected:
            device.attach_iommufd_pt(device_hwpt)
