# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_HWPT_SET_DIRTY_TRACKING."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import PAGE

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Hwpt


UNKNOWN = 9999
ENABLE = 1
NO_HWPT = ["other_ioas", "nested_hwpt"]
NOT_TRACKING = ["hwpt", "auto_hwpt"]


@rule("dirty_tracking.set.flags")
def test_unknown_flag(expected, dirty_hwpt, uapi):
    spare = spare_flags(uapi, "iommu_hwpt_set_dirty_tracking.flags")
    for flags in [spare[0], spare[0] | ENABLE, spare[-1]]:
        with expected:
            dirty_hwpt.set_dirty_tracking(flags=flags)


@rule("dirty_tracking.set.flags.changes_nothing")
def test_unknown_flag_changes_nothing(expected, untracked, uapi):
    unknown = spare_flags(uapi, "iommu_hwpt_set_dirty_tracking.flags")[0]
    with expected:
        untracked.hwpt.set_dirty_tracking(flags=ENABLE | unknown)
    with raises_errno(22):
        untracked.mark(1)


@rule("dirty_tracking.set.reserved")
@pytest.mark.parametrize("value", [1, 0xFFFF_FFFF], ids=hex)
def test_reserved(expected, tracked, value):
    for enable in (False, True):
        with expected:
            tracked.hwpt.set_dirty_tracking(enable=enable, __reserved=value)
    assert tracked.mark(1) == 2


@rule("dirty_tracking.set.hwpt_id")
def test_id_that_names_nothing(expected, dirty_hwpt):
    with expected:
        dirty_hwpt.set_dirty_tracking(hwpt_id=UNKNOWN)


@rule("dirty_tracking.set.hwpt_id.other_type")
@pytest.mark.parametrize("kind", NO_HWPT)
def test_id_of_something_else(expected, dirty_hwpt, kind, request):
    wrong = request.getfixturevalue(kind)
    for enable in (True, False):
        with expected:
            dirty_hwpt.set_dirty_tracking(enable=enable, hwpt_id=wrong)


@rule("dirty_tracking.set.hwpt_id")
def test_destroyed_hwpt(expected, dirty_hwpt):
    dirty_hwpt.destroy()
    with expected:
        dirty_hwpt.set_dirty_tracking()


@rule("dirty_tracking.set.other_context")
def test_hwpt_of_another_context(expected, other_iommufd, dirty_hwpt):
    with expected:
        other_iommufd.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", hwpt_id=dirty_hwpt, flags=1)


@rule("dirty_tracking.set.not_tracking")
@pytest.mark.parametrize("kind", NOT_TRACKING)
@pytest.mark.parametrize("enable", [True, False], ids=["on", "off"])
@pytest.mark.usefixtures("iommufd")
def test_hwpt_without_tracking(expected, kind, request, enable):
    wrong: Hwpt = request.getfixturevalue(kind)
    with expected:
        wrong.set_dirty_tracking(enable=enable)


@rule("dirty_tracking.set.on_off")
def test_on_and_off(untracked):
    for _ in range(3):
        untracked.hwpt.set_dirty_tracking()
        assert untracked.mark(1) == 2
        untracked.hwpt.set_dirty_tracking(enable=False)


@rule("dirty_tracking.set.repeated")
def test_on_and_off_again(untracked):
    untracked.hwpt.set_dirty_tracking(enable=False)
    untracked.hwpt.set_dirty_tracking()
    untracked.hwpt.set_dirty_tracking()
    assert untracked.mark(1) == 2
    untracked.hwpt.set_dirty_tracking(enable=False)
    untracked.hwpt.set_dirty_tracking(enable=False)


@rule("dirty_tracking.set.off")
def test_off_tracks_nothing(expected, tracked):
    tracked.hwpt.set_dirty_tracking(enable=False)
    with expected:
        tracked.mark(1)


@rule("dirty_tracking.set.attached")
def test_with_a_device(tracked, mock_device, ioas):
    mock_device.replace(tracked.hwpt)
    tracked.hwpt.set_dirty_tracking(enable=False)
    tracked.hwpt.set_dirty_tracking()
    tracked.mark(3)
    mock_device.replace(ioas)
    assert tracked.read() == {3}


@rule("dirty_tracking.set.clears")
def test_on_forgets(tracked):
    tracked.mark(0, 5, 15)
    tracked.hwpt.set_dirty_tracking(enable=False)
    tracked.hwpt.set_dirty_tracking()
    assert tracked.read() == set()


@rule("dirty_tracking.set.clears_each_area")
def test_on_forgets_all(untracked, buffer):
    other = untracked.iova + 2 * untracked.length
    untracked.ioas.map(buffer, iova=other)
    untracked.hwpt.set_dirty_tracking()
    for start in (untracked.iova, other):
        untracked.iova = start
        untracked.mark(7)
    untracked.hwpt.set_dirty_tracking()
    for start in (untracked.iova, other):
        assert untracked.read(iova=start) == set()


@rule("dirty_tracking.set.again_clears")
def test_on_again_forgets(tracked):
    tracked.mark(0, 5, 15)
    tracked.hwpt.set_dirty_tracking()
    assert tracked.read() == set()


@rule("dirty_tracking.set.off_clears_not")
def test_off_forgets_nothing(tracked):
    tracked.mark(5)
    tracked.hwpt.set_dirty_tracking(enable=False)
    assert tracked.read() == {5}


@rule("dirty_tracking.set.reserved_iova")
def test_reserved_iova(untracked):
    untracked.ioas.add_reserved(untracked.iova + 2 * untracked.length, PAGE)
    untracked.hwpt.set_dirty_tracking()
    untracked.mark(2)
    assert untracked.read() == {2}


@rule("dirty_tracking.set.each_hwpt")
def test_each_for_itself(iommufd, mock_device, tracked, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    other = iommufd.hwpt_alloc(mock_device, tracked.ioas, flags=flags)
    with raises_errno(22):
        other.mark_dirty(tracked.iova, PAGE, PAGE, tracked.bitmap)
    other.set_dirty_tracking()
    tracked.hwpt.set_dirty_tracking(enable=False)
    other.mark_dirty(tracked.iova, PAGE, PAGE, tracked.bitmap)


@rule("dirty_tracking.set.holds_nothing")
def test_tracking_hwpt_can_go(tracked):
    tracked.hwpt.destroy()
    tracked.ioas.destroy()


@rule("dirty_tracking.set.pasid")
def test_with_a_pasid(iommufd, mock_devices, ioas, uapi):
    device = mock_devices(pasid=True)
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    made = iommufd.hwpt_alloc(device, ioas, flags=flags)
    device.replace(made)
    device.pasid_attach(100, made)
    made.set_dirty_tracking()
    made.set_dirty_tracking(enable=False)
    device.pasid_detach(100)


@rule("dirty_tracking.set.new_areas")
def test_areas_mapped_later(tracked, buffer):
    tracked.iova += 2 * tracked.length
    tracked.ioas.map(buffer, iova=tracked.iova)
    tracked.mark(9)
    assert tracked.read() == {9}
