# SPDX-License-Identifier: GPL-2.0-only
"""Attaching, moving and detaching PASIDs."""

from __future__ import annotations

from errno import ENOENT, ENOMEM
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import MockDevice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Hwpt, Ioas
    from pytest_iommufd.uapi import Uapi

WIDTH = 20
PASID = 100
FAILS = 1024  # IOMMU_TEST_PASID_RESERVED
NOT_FOR_PASIDS = ["hwpt", "parent_hwpt", "nested_hwpt", "auto_hwpt"]
FOR_PASIDS = ["pasid_hwpt", "other_pasid_hwpt", "nested_pasid_hwpt"]


@pytest.fixture(params=["never_used", "ioas", "device", "hwpt"])
def no_device(request: pytest.FixtureRequest, pasids: MockDevice, ioas: Ioas) -> MockDevice:
    """What is no mock device, as if it were one."""
    wrong = {"never_used": 9999, "ioas": ioas.id, "device": pasids.id, "hwpt": pasids.hwpt.id}
    number = wrong[request.param]
    return MockDevice(pasids.context, number, number, pasids.hwpt.id)


@pytest.fixture
def unwritable_op(
    pasids: MockDevice, unwritable: Callable[..., None], uapi: Uapi
) -> Callable[[str, Hwpt], None]:
    """Attaches the PASID by an operation whose struct cannot be written."""

    def call(op: str, pt: Hwpt) -> None:
        number = getattr(uapi, f"IOMMU_TEST_OP_{op.upper()}")
        fields = {op: {"pasid": PASID, "pt_id": pt}}
        unwritable("IOMMU_TEST_CMD", op=number, id=pasids.selftest, **fields)

    return call


# ---- attach ----


@rule("attach.pasid.device")
def test_attach_no_device(expected, no_device):
    with expected:
        no_device.pasid_attach(PASID, no_device.hwpt)


@rule("attach.pasid.pt_id")
@pytest.mark.parametrize("wrong", [0, 9999, 0xFFFF_FFFF])
def test_attach_to_nothing(expected, pasids, wrong):
    with expected:
        pasids.pasid_attach(PASID, wrong)
    pasids.pasid_check_hwpt(PASID)


@rule("attach.pasid.pt_type")
def test_attach_to_something_else(expected, pasids, fault_queue):
    for wrong in (pasids, pasids.selftest, fault_queue):
        with expected:
            pasids.pasid_attach(PASID, wrong)


@rule("attach.pasid.hwpt")
@pytest.mark.parametrize("kind", NOT_FOR_PASIDS)
def test_attach_to_a_hwpt_not_for_pasids(expected, pasids, kind, request):
    wrong: Hwpt = request.getfixturevalue(kind)
    with expected:
        pasids.pasid_attach(PASID, wrong)
    pasids.pasid_check_hwpt(PASID)


@rule("attach.pasid.ioas")
def test_attach_to_an_ioas(expected, pasids, ioas):
    with expected:
        pasids.pasid_attach(PASID, ioas)
    pasids.pasid_check_hwpt(PASID)


@rule("attach.pasid.ioas.undone")
def test_attach_to_an_ioas_leaves_nothing(expected, pasids, other_ioas):
    with expected:
        pasids.pasid_attach(PASID, other_ioas)
    other_ioas.destroy()


@rule("attach.pasid.device_hwpt")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "nested_hwpt", "ioas"])
def test_attach_with_the_device_elsewhere(expected, pasids, pasid_hwpt, kind, request):
    pasids.replace(request.getfixturevalue(kind))
    with expected:
        pasids.pasid_attach(PASID, pasid_hwpt)


@rule("attach.pasid.device_detached")
def test_attach_with_the_device_nowhere(pasids, pasid_hwpt):
    pasids.pasid_detach(0)
    pasids.pasid_attach(PASID, pasid_hwpt)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)
    pasids.pasid_attach(0, pasid_hwpt)


@rule("attach.pasid.width")
@pytest.mark.parametrize("pasid", [1 << WIDTH, 0xFFFF_FFFF], ids=hex)
def test_attach_a_wide_pasid(expected, pasids, pasid_hwpt, pasid):
    with expected:
        pasids.pasid_attach(pasid, pasid_hwpt)


@rule("attach.pasid.none")
@pytest.mark.parametrize("pasid", [1, 5, PASID])
def test_attach_for_a_device_without_pasids(expected, iommufd, pasid_hwpt, pasid):
    device = iommufd.mock_device(pasid_hwpt)
    with expected:
        device.pasid_attach(pasid, pasid_hwpt)


@rule("attach.pasid.attached")
@pytest.mark.parametrize("kind", FOR_PASIDS)
def test_attach(pasids, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    assert pasids.pasid_attach(PASID, target) == target.id
    pasids.pasid_check_hwpt(PASID, target)


@rule("attach.pasid.last")
@pytest.mark.parametrize("pasid", [1, (1 << WIDTH) - 1])
def test_attach_the_last(pasids, pasid_hwpt, pasid):
    pasids.pasid_attach(pasid, pasid_hwpt)
    pasids.pasid_check_hwpt(pasid, pasid_hwpt)


@rule("attach.pasid.many")
def test_attach_many(pasids, pasid_hwpt, other_pasid_hwpt):
    for pasid, target in ((1, pasid_hwpt), (2, other_pasid_hwpt), (3, pasid_hwpt)):
        pasids.pasid_attach(pasid, target)
    pasids.pasid_check_hwpt(1, pasid_hwpt)
    pasids.pasid_check_hwpt(2, other_pasid_hwpt)
    pasids.pasid_check_hwpt(3, pasid_hwpt)
    pasids.pasid_check_hwpt(4)


@rule("attach.pasid.twice")
@pytest.mark.parametrize("kind", FOR_PASIDS)
def test_attach_twice(expected, pasids, pasid_hwpt, kind, request):
    other: Hwpt = request.getfixturevalue(kind)
    pasids.pasid_attach(PASID, pasid_hwpt)
    with expected:
        pasids.pasid_attach(PASID, other)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid.zero")
@pytest.mark.parametrize("kind", ["pasid_hwpt", "other_pasid_hwpt", "hwpt"])
def test_attach_pasid_zero(expected, pasids, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    with expected:
        pasids.pasid_attach(0, target)


@rule("attach.pasid.zero_again")
def test_attach_the_device_again(pasids, hwpt, ioas):
    for target in (hwpt, ioas):
        pasids.pasid_detach(0)
        pasids.pasid_check_hwpt(0)
        pasids.pasid_check_hwpt(0, pasids.pasid_attach(0, target))


@rule("attach.pasid.busy")
def test_attached_hwpt_is_held(expected, pasids, other_pasid_hwpt):
    pasids.pasid_attach(PASID, other_pasid_hwpt)
    with expected:
        other_pasid_hwpt.destroy()
    pasids.pasid_detach(PASID)
    other_pasid_hwpt.destroy()


@rule("attach.pasid.device_kept")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "nested_hwpt", "ioas"])
def test_device_stays_where_it_is(expected, pasids, pasid_hwpt, kind, request):
    wrong = request.getfixturevalue(kind)
    pasids.pasid_attach(PASID, pasid_hwpt)
    with expected:
        pasids.replace(wrong)
    pasids.pasid_check_hwpt(0, pasid_hwpt)
    pasids.pasid_detach(PASID)
    pasids.replace(wrong)


@rule("attach.pasid.device_moved")
@pytest.mark.parametrize("kind", ["other_pasid_hwpt", "nested_pasid_hwpt"])
def test_device_can_be_moved(pasids, pasid_hwpt, kind, request):
    other: Hwpt = request.getfixturevalue(kind)
    pasids.pasid_attach(PASID, pasid_hwpt)
    pasids.replace(other)
    pasids.pasid_check_hwpt(0, other)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid.device_attached")
def test_device_is_not_attached_elsewhere(expected, pasids, pasid_hwpt, hwpt, ioas):
    pasids.pasid_attach(PASID, pasid_hwpt)
    pasids.pasid_detach(0)
    for wrong in (hwpt, ioas):
        with expected:
            pasids.pasid_attach(0, wrong)
    pasids.pasid_attach(0, pasid_hwpt)


@rule("attach.pasid.unwritable")
def test_attached_hwpt_cannot_be_told(expected, pasids, other_pasid_hwpt, unwritable_op):
    with expected:
        unwritable_op("pasid_attach", other_pasid_hwpt)
    pasids.pasid_check_hwpt(PASID)
    other_pasid_hwpt.destroy()


@rule("attach.pasid.other_devices")
def test_devices_have_pasids_of_their_own(iommufd, pasids, pasid_hwpt, other_pasid_hwpt, uapi):
    other = iommufd.mock_device(pasid_hwpt, uapi.MOCK_FLAGS_DEVICE_PASID)
    pasids.pasid_attach(PASID, pasid_hwpt)
    other.pasid_check_hwpt(PASID)
    other.pasid_attach(PASID, other_pasid_hwpt)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)
    other.pasid_detach(PASID)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid.viommu")
def test_attach_to_a_hwpt_of_a_viommu(iommufd, pasids, viommu, hwpt_type, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_PASID
    made = iommufd.hwpt_alloc(pasids, viommu, hwpt_type.valid(), flags=flags)
    with raises_errno(ENOENT):
        pasids.replace(made)
    pasids.pasid_attach(PASID, made)
    pasids.pasid_check_hwpt(PASID, made)


@rule("attach.pasid.fault_queue")
def test_attach_to_a_hwpt_with_a_fault_queue(
    iommufd, pasids, pasid_hwpt, parent_hwpt, hwpt_type, fault_queue, uapi
):
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | uapi.IOMMU_HWPT_FAULT_ID_VALID
    data = hwpt_type.valid()
    made = iommufd.hwpt_alloc(pasids, parent_hwpt, data, flags=flags, fault_id=fault_queue)
    pasids.pasid_attach(PASID, made)
    pasids.pasid_check_hwpt(PASID, made)
    pasids.pasid_replace(PASID, pasid_hwpt)
    made.destroy()


@rule("attach.pasid.no_dirty")
def test_attach_without_dirty_tracking(expected, iommufd, pasid_hwpt, mock_device, ioas, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    dirty = iommufd.hwpt_alloc(mock_device, ioas, flags=flags)
    flags = uapi.MOCK_FLAGS_DEVICE_PASID | uapi.MOCK_FLAGS_DEVICE_NO_DIRTY
    device = iommufd.mock_device(pasid_hwpt, flags)
    with expected:
        device.pasid_attach(PASID, dirty)
    device.pasid_check_hwpt(PASID, dirty if expected.defect else 0)
    device.pasid_detach(PASID)


@rule("attach.pasid.no_dirty_hwpt")
def test_hwpt_with_dirty_tracking(expected, iommufd, mock_devices, ioas, uapi):
    device = mock_devices(no_dirty=True, pasid=True)
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    with expected:
        iommufd.hwpt_alloc(device, ioas, flags=flags)
    iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)


@rule("attach.pasid.plain_device")
@pytest.mark.parametrize("kind", FOR_PASIDS)
def test_device_without_pasids(mock_device, ioas, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    assert mock_device.replace(target) == target.id
    mock_device.replace(ioas)


# ---- replace ----


@rule("attach.pasid_replace.device")
def test_replace_no_device(expected, no_device):
    with expected:
        no_device.pasid_replace(PASID, no_device.hwpt)


@rule("attach.pasid_replace.pt_id")
def test_replace_with_nothing(expected, pasids, pasid_hwpt):
    pasids.pasid_attach(PASID, pasid_hwpt)
    for wrong in (0, 9999):
        with expected:
            pasids.pasid_replace(PASID, wrong)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid_replace.pt_type")
def test_replace_with_something_else(expected, pasids, pasid_hwpt):
    pasids.pasid_attach(PASID, pasid_hwpt)
    for wrong in (pasids, pasids.selftest):
        with expected:
            pasids.pasid_replace(PASID, wrong)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid_replace.hwpt")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "nested_hwpt", "ioas", "other_ioas"])
def test_replace_with_a_hwpt_not_for_pasids(expected, pasids, pasid_hwpt, kind, request):
    wrong = request.getfixturevalue(kind)
    pasids.pasid_attach(PASID, pasid_hwpt)
    with expected:
        pasids.pasid_replace(PASID, wrong)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid_replace.unattached")
def test_replace_an_unattached_pasid(expected, pasids, pasid_hwpt):
    pasids.pasid_attach(PASID + 1, pasid_hwpt)
    with expected:
        pasids.pasid_replace(PASID, pasid_hwpt)
    pasids.pasid_check_hwpt(PASID)


@rule("attach.pasid_replace.moved")
@pytest.mark.parametrize("kind", FOR_PASIDS)
def test_replace(pasids, pasid_hwpt, kind, request):
    other: Hwpt = request.getfixturevalue(kind)
    pasids.pasid_attach(PASID, pasid_hwpt)
    assert pasids.pasid_replace(PASID, other) == other.id
    pasids.pasid_check_hwpt(PASID, other)
    pasids.pasid_replace(PASID, pasid_hwpt)
    pasids.pasid_check_hwpt(PASID, pasid_hwpt)


@rule("attach.pasid_replace.same")
def test_replace_with_the_same(pasids, other_pasid_hwpt):
    pasids.pasid_attach(PASID, other_pasid_hwpt)
    assert pasids.pasid_replace(PASID, other_pasid_hwpt) == other_pasid_hwpt.id
    pasids.pasid_detach(PASID)
    other_pasid_hwpt.destroy()


@rule("attach.pasid_replace.holds")
def test_replaced_hwpt_is_not_held(expected, pasids, other_pasid_hwpt, nested_pasid_hwpt):
    pasids.pasid_attach(PASID, other_pasid_hwpt)
    pasids.pasid_replace(PASID, nested_pasid_hwpt)
    with expected:
        nested_pasid_hwpt.destroy()
    other_pasid_hwpt.destroy()


@rule("attach.pasid_replace.driver_fails")
def test_replace_fails_in_the_driver(expected, pasids, pasid_hwpt, other_pasid_hwpt):
    pasids.pasid_attach(FAILS, pasid_hwpt)
    with expected:
        pasids.pasid_replace(FAILS, other_pasid_hwpt)
    pasids.pasid_check_hwpt(FAILS, pasid_hwpt)
    other_pasid_hwpt.destroy()


@rule("attach.pasid_replace.driver_fails_once")
@pytest.mark.no_fail_nth("a failure before the driver's one leaves that to the next call")
def test_replace_succeeds_then(pasids, pasid_hwpt, other_pasid_hwpt):
    pasids.pasid_attach(FAILS, pasid_hwpt)
    with raises_errno(ENOMEM):
        pasids.pasid_replace(FAILS, other_pasid_hwpt)
    pasids.pasid_replace(FAILS, other_pasid_hwpt)
    pasids.pasid_check_hwpt(FAILS, other_pasid_hwpt)


@rule("attach.pasid_replace.unwritable")
def test_replaced_hwpt_cannot_be_told(
    expected, pasids, pasid_hwpt, other_pasid_hwpt, unwritable_op
):
    pasids.pasid_attach(PASID, pasid_hwpt)
    with expected:
        unwritable_op("pasid_replace", other_pasid_hwpt)
    pasids.pasid_check_hwpt(PASID, other_pasid_hwpt)


# ---- detach, check ----


@rule("attach.pasid_detach.device")
def test_detach_no_device(expected, no_device):
    with expected:
        no_device.pasid_detach(PASID)


@rule("attach.pasid_detach.unattached")
@pytest.mark.parametrize("pasid", [1, PASID, (1 << WIDTH) - 1, 1 << WIDTH, 0xFFFF_FFFF])
def test_detach_an_unattached_pasid(pasids, pasid_hwpt, pasid):
    pasids.pasid_detach(pasid)
    pasids.pasid_check_hwpt(0, pasid_hwpt)


@rule("attach.pasid_detach.detached")
def test_detach(pasids, other_pasid_hwpt):
    pasids.pasid_attach(PASID, other_pasid_hwpt)
    pasids.pasid_detach(PASID)
    pasids.pasid_check_hwpt(PASID)
    pasids.pasid_detach(PASID)
    other_pasid_hwpt.destroy()


@rule("attach.pasid_detach.others")
def test_detach_one(pasids, other_pasid_hwpt):
    pasids.pasid_attach(PASID, other_pasid_hwpt)
    pasids.pasid_attach(PASID + 1, other_pasid_hwpt)
    pasids.pasid_detach(PASID)
    pasids.pasid_check_hwpt(PASID + 1, other_pasid_hwpt)


@rule("attach.pasid_check.wrong")
def test_check(expected, pasids, pasid_hwpt, other_pasid_hwpt):
    pasids.pasid_attach(PASID, pasid_hwpt)
    for pasid, wrong in ((PASID, other_pasid_hwpt), (PASID, 0), (PASID + 1, pasid_hwpt)):
        with expected:
            pasids.pasid_check_hwpt(pasid, wrong)


@rule("attach.pasid_check.wrong")
def test_check_something_else(expected, pasids, ioas):
    for wrong in (ioas, pasids):
        with expected:
            pasids.pasid_check_hwpt(PASID, wrong)


@rule("attach.pasid_check.hwpt_id")
def test_check_nothing(expected, pasids):
    with expected:
        pasids.pasid_check_hwpt(PASID, 9999)


@rule("attach.pasid_check.device")
def test_check_no_device(expected, no_device):
    with expected:
        no_device.pasid_check_hwpt(PASID, no_device.hwpt)
