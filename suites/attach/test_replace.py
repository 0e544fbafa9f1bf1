# SPDX-License-Identifier: GPL-2.0-only
"""Attaching a device to something else (MOCK_DOMAIN_REPLACE)."""

from __future__ import annotations

from errno import ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, Ioas, MockDevice
    from pytest_iommufd.rules.expectation import Expectation

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
def test_device_that_does_not_exist(
    expected: Expectation, iommufd: Context, hwpt: Hwpt, wrong: int
) -> None:
    with expected:
        _replace(iommufd, wrong, hwpt.id)


@rule("attach.replace.device")
@pytest.mark.parametrize("kind", [*NO_DEVICE, "mock_device"])
def test_device_that_is_something_else(
    expected: Expectation,
    iommufd: Context,
    hwpt: Hwpt,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    wrong = request.getfixturevalue(kind)
    with expected:
        _replace(iommufd, wrong, hwpt.id)


@rule("attach.replace.device.before_pt")
def test_device_is_told_first(expected: Expectation, iommufd: Context, ioas: Ioas) -> None:
    with expected:
        _replace(iommufd, 9999, iommufd.fault_queue_alloc().id)
    ioas.destroy()


@rule("attach.replace.other_context")
def test_device_of_another_context(
    expected: Expectation, other_iommufd: Context, mock_device: MockDevice
) -> None:
    pt = other_iommufd.ioas_alloc()
    with expected:
        _replace(other_iommufd, mock_device.selftest, pt.id)


@rule("attach.replace.pt_id")
@pytest.mark.parametrize("wrong", [0, 9999, 0xFFFF_FFFF])
def test_id_that_names_nothing(expected: Expectation, mock_device: MockDevice, wrong: int) -> None:
    with expected:
        mock_device.replace(wrong)


@rule("attach.replace.pt_id")
def test_destroyed_hwpt(expected: Expectation, mock_device: MockDevice, hwpt: Hwpt) -> None:
    hwpt.destroy()
    with expected:
        mock_device.replace(hwpt)


@rule("attach.replace.pt_type")
def test_ids_of_devices(expected: Expectation, mock_device: MockDevice) -> None:
    for wrong in (mock_device, mock_device.selftest):
        with expected:
            mock_device.replace(wrong)


@rule("attach.replace.pt_type")
def test_id_of_a_fault_queue(
    expected: Expectation, mock_device: MockDevice, iommufd: Context
) -> None:
    queue = iommufd.fault_queue_alloc()
    with expected:
        mock_device.replace(queue)


@rule("attach.replace.hwpt")
@pytest.mark.parametrize("kind", ANY_HWPT)
def test_hwpts(
    mock_device: MockDevice, ioas: Ioas, kind: str, request: pytest.FixtureRequest
) -> None:
    target: Hwpt = request.getfixturevalue(kind)
    assert mock_device.replace(target) == target.id
    mock_device.replace(ioas)


@rule("attach.replace.same")
@pytest.mark.parametrize("kind", ["hwpt", "nested_hwpt"])
def test_same_hwpt(mock_device: MockDevice, kind: str, request: pytest.FixtureRequest) -> None:
    target: Hwpt = request.getfixturevalue(kind)
    for _ in range(3):
        assert mock_device.replace(target) == target.id
    mock_device.destroy()
    target.destroy()


@rule("attach.replace.same")
def test_same_ioas(mock_device: MockDevice, ioas: Ioas) -> None:
    for _ in range(3):
        assert mock_device.replace(ioas) == mock_device.hwpt.id
    mock_device.destroy()
    ioas.destroy()


@rule("attach.replace.ioas")
def test_ioas_is_its_automatic_hwpt(
    mock_device: MockDevice, other_device: MockDevice, hwpt: Hwpt, ioas: Ioas
) -> None:
    mock_device.replace(hwpt)
    assert mock_device.replace(ioas) == other_device.hwpt.id


@rule("attach.replace.other_ioas")
def test_other_ioas(mock_device: MockDevice, ioas: Ioas, other_ioas: Ioas) -> None:
    before = ioas.iova_ranges()
    mock_device.replace(other_ioas)
    assert other_ioas.iova_ranges() == before != ioas.iova_ranges()
    ioas.destroy()
    mock_device.destroy()
    other_ioas.destroy()


@rule("attach.replace.holds")
@pytest.mark.parametrize("kind", ["hwpt", "nested_hwpt"])
def test_new_hwpt_is_held(
    expected: Expectation,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
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
def test_device_without_dirty_tracking(
    expected: Expectation, mock_devices: Callable[..., MockDevice], dirty_hwpt: Hwpt, ioas: Ioas
) -> None:
    device = mock_devices(no_dirty=True)
    with expected:
        device.replace(dirty_hwpt)
    dirty_hwpt.destroy()
    assert device.replace(ioas) == device.hwpt.id


@rule("attach.replace.area")
@pytest.mark.parametrize("kind", ["ioas_outside_aperture", "ioas_unaligned"])
def test_ioas_that_is_not_fit(
    expected: Expectation,
    mock_device: MockDevice,
    ioas: Ioas,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    wrong: Ioas = request.getfixturevalue(kind)
    with expected:
        mock_device.replace(wrong)
    wrong.destroy()
    assert mock_device.replace(ioas) == mock_device.hwpt.id


@rule("attach.replace.detached")
def test_detached_device(
    expected: Expectation, mock_device: MockDevice, hwpt: Hwpt, ioas: Ioas
) -> None:
    mock_device.pasid_detach(0)
    with raises_errno(ENOENT):
        mock_device.hwpt.destroy()
    for target in (hwpt, ioas):
        with expected:
            mock_device.replace(target)
    hwpt.destroy()
    mock_device.pasid_attach(0, ioas)
