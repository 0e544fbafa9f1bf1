# SPDX-License-Identifier: GPL-2.0-only
"""Attaching a device to something else (MOCK_DOMAIN_REPLACE)."""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context, Hwpt, Ioas

ANY_HWPT = ["auto_hwpt", "hwpt", "parent_hwpt", "nested_hwpt", "dirty_hwpt"]
NO_DEVICE = ["ioas", "auto_hwpt", "hwpt", "fault_queue"]


def _replace(context: Context, device: object, pt: int) -> None:
    context.test(
        "mock_domain_replace",
        device,  # type: ignore[arg-type]
        mock_domain_replace={"pt_id": pt},
    )


@rule("attach.replace.device")
@pytest.mark.parametrize("wrong", [0, 9999, 0xFFFF_FFFF])
def test_device_that_does_not_exist(expected, iommufd, hwpt, wrong):
    with expected:
        _replace(iommufd, wrong, hwpt.id)


@rule("attach.replace.device.other_type")
@pytest.mark.parametrize("kind", [*NO_DEVICE, "mock_device"])
def test_device_that_is_something_else(expected, iommufd, hwpt, kind, request):
    wrong = request.getfixturevalue(kind)
    with expected:
        _replace(iommufd, wrong, hwpt.id)


@rule("attach.replace.device.before_pt")
def test_device_is_told_first(expected, iommufd, fault_queue):
    with expected:
        _replace(iommufd, 9999, fault_queue.id)


@rule("attach.replace.other_context")
def test_device_of_another_context(expected, other_iommufd, mock_device):
    pt = other_iommufd.ioas_alloc()
    with expected:
        _replace(other_iommufd, mock_device.selftest, pt.id)


@rule("attach.replace.pt_id")
@pytest.mark.parametrize("wrong", [0, 9999, 0xFFFF_FFFF])
def test_id_that_names_nothing(expected, mock_device, wrong):
    with expected:
        mock_device.replace(wrong)


@rule("attach.replace.pt_id")
def test_destroyed_hwpt(expected, mock_device, hwpt):
    hwpt.destroy()
    with expected:
        mock_device.replace(hwpt)


@rule("attach.replace.pt_type")
def test_ids_of_devices(expected, mock_device):
    for wrong in (mock_device, mock_device.selftest):
        with expected:
            mock_device.replace(wrong)


@rule("attach.replace.pt_type")
def test_id_of_a_fault_queue(expected, mock_device, iommufd):
    queue = iommufd.fault_queue_alloc()
    with expected:
        mock_device.replace(queue)


@rule("attach.replace.hwpt")
@pytest.mark.parametrize("kind", ANY_HWPT)
def test_hwpts(mock_device, ioas, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    assert mock_device.replace(target) == target.id
    mock_device.replace(ioas)


@rule("attach.replace.same")
@pytest.mark.parametrize("kind", ["hwpt", "nested_hwpt"])
def test_same_hwpt(mock_device, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    for _ in range(3):
        assert mock_device.replace(target) == target.id
    mock_device.destroy()
    target.destroy()


@rule("attach.replace.same")
def test_same_ioas(mock_device, ioas):
    for _ in range(3):
        assert mock_device.replace(ioas) == mock_device.hwpt.id
    mock_device.destroy()
    ioas.destroy()


@rule("attach.replace.ioas")
def test_ioas_is_its_automatic_hwpt(mock_device, other_device, hwpt, ioas):
    mock_device.replace(hwpt)
    assert mock_device.replace(ioas) == other_device.hwpt.id


@rule("attach.replace.other_ioas")
def test_other_ioas(mock_device, ioas, other_ioas):
    before = ioas.iova_ranges()
    mock_device.replace(other_ioas)
    assert other_ioas.iova_ranges() == before != ioas.iova_ranges()
    ioas.destroy()
    mock_device.destroy()
    other_ioas.destroy()


@rule("attach.replace.holds")
@pytest.mark.parametrize("kind", ["hwpt", "nested_hwpt"])
def test_new_hwpt_is_held(expected, mock_device, parent_hwpt, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    mock_device.replace(target)
    with expected:
        target.destroy()
    mock_device.replace(parent_hwpt)
    target.destroy()
    with expected:
        parent_hwpt.destroy()
    mock_device.destroy()
    parent_hwpt.destroy()


@rule("attach.replace.no_dirty")
def test_device_without_dirty_tracking(expected, mock_devices, dirty_hwpt, ioas):
    device = mock_devices(no_dirty=True)
    with expected:
        device.replace(dirty_hwpt)
    dirty_hwpt.destroy()
    assert device.replace(ioas) == device.hwpt.id


@rule("attach.replace.area")
@pytest.mark.parametrize("kind", ["ioas_outside_aperture", "ioas_unaligned"])
def test_ioas_that_is_not_fit(expected, mock_device, ioas, kind, request):
    wrong: Ioas = request.getfixturevalue(kind)
    with expected:
        mock_device.replace(wrong)
    wrong.destroy()
    assert mock_device.replace(ioas) == mock_device.hwpt.id


@rule("attach.replace.detached")
def test_detached_device(expected, mock_device, hwpt, ioas):
    mock_device.pasid_detach(0)
    with raises_errno(ENOENT):
        mock_device.hwpt.destroy()
    for target in (hwpt, ioas):
        with expected:
            mock_device.replace(target)
    hwpt.destroy()
    mock_device.pasid_attach(0, ioas)
