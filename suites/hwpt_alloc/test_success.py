# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_HWPT_ALLOC makes, each kind proved by what can be done with it."""

from __future__ import annotations

from errno import ENOENT

import pytest

from pytest_iommufd import raises_errno, rule


@rule("hwpt_alloc.paging.plain")
def test_ioas_gives_a_hwpt(iommufd, mock_device, ioas):
    made = iommufd.hwpt_alloc(mock_device, ioas)
    assert made.id not in (ioas.id, mock_device.id, mock_device.selftest.id, mock_device.hwpt.id)
    made.destroy()
    with raises_errno(ENOENT):
        made.destroy()


@rule("hwpt_alloc.paging.other_ioas")
def test_ioas_needs_no_device_attached(iommufd, mock_device, other_ioas, ioas):
    made = iommufd.hwpt_alloc(mock_device, other_ioas)
    assert mock_device.replace(made) == made.id
    mock_device.replace(ioas)


@rule("hwpt_alloc.paging.many")
def test_an_ioas_gives_many_hwpts(iommufd, mock_device, ioas):
    made = {iommufd.hwpt_alloc(mock_device, ioas).id for _ in range(5)}
    assert len(made) == 5
    assert mock_device.hwpt.id not in made


@rule("hwpt_alloc.paging.mapped")
def test_hwpt_has_what_is_mapped_already(iommufd, mock_device, other_ioas, buffer, uapi):
    iova = other_ioas.map(buffer, iova=uapi.MOCK_APERTURE_START)
    made = iommufd.hwpt_alloc(mock_device, other_ioas)
    check = {"iova": iova, "length": buffer.size, "uptr": buffer.address}
    iommufd.test("md_check_map", made, check_map=check)


@rule("hwpt_alloc.paging.mapped_later")
def test_hwpt_gets_what_is_mapped_later(iommufd, mock_device, other_ioas, buffer, uapi):
    made = iommufd.hwpt_alloc(mock_device, other_ioas)
    iova = other_ioas.map(buffer, iova=uapi.MOCK_APERTURE_START)
    check = {"iova": iova, "length": buffer.size, "uptr": buffer.address}
    iommufd.test("md_check_map", made, check_map=check)


@rule("hwpt_alloc.paging.nest_parent")
def test_nest_parent_makes_a_parent(expected, iommufd, mock_device, ioas, hwpt_type, uapi):
    with expected:
        made = iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    if expected.ok:
        iommufd.hwpt_alloc(mock_device, made, hwpt_type.valid(iotlb=1)).check_iotlb(0, 1)


@rule("hwpt_alloc.paging.dirty_tracking")
@pytest.mark.parametrize("parent", [False, True], ids=["alone", "with_nest_parent"])
def test_dirty_tracking_can_be_switched_on(expected, iommufd, mock_device, ioas, uapi, parent):
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    flags |= uapi.IOMMU_HWPT_ALLOC_NEST_PARENT if parent else 0
    with expected:
        made = iommufd.hwpt_alloc(mock_device, ioas, flags=flags)
    if expected.ok:
        enable = uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
        iommufd.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", hwpt_id=made, flags=enable)


@rule("hwpt_alloc.paging.no_dirty_tracking")
def test_without_the_flag_dirty_tracking_cannot_be_switched_on(expected, iommufd, hwpt, uapi):
    enable = uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    with expected:
        iommufd.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", hwpt_id=hwpt, flags=enable)


@rule("hwpt_alloc.paging.dirty_enforced")
def test_dirty_tracking_refuses_devices_without_it(expected, dirty_hwpt, no_dirty_device):
    with expected:
        no_dirty_device.replace(dirty_hwpt)


@rule("hwpt_alloc.paging.no_dirty_device")
def test_device_without_dirty_tracking_gets_a_plain_hwpt(iommufd, no_dirty_device, ioas):
    made = iommufd.hwpt_alloc(no_dirty_device, ioas)
    assert no_dirty_device.replace(made) == made.id
    no_dirty_device.replace(ioas)


@rule("hwpt_alloc.nested.plain")
def test_parent_gives_a_nested_hwpt(iommufd, mock_device, parent_hwpt, hwpt_type, uapi):
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(iotlb=0xC0FFEE))
    for entry in range(uapi.MOCK_NESTED_DOMAIN_IOTLB_NUM):
        made.check_iotlb(entry, 0xC0FFEE)
    assert made.id != parent_hwpt.id


@rule("hwpt_alloc.nested.attach")
def test_nested_hwpt_can_be_attached(mock_device, nested_hwpt, ioas):
    assert mock_device.replace(nested_hwpt) == nested_hwpt.id
    mock_device.replace(ioas)


@rule("hwpt_alloc.nested.many")
def test_a_parent_has_many_nested_hwpts(iommufd, mock_device, parent_hwpt, hwpt_type):
    made = [
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(iotlb=value))
        for value in range(1, 5)
    ]
    for value, child in enumerate(made, 1):
        child.check_iotlb(3, value)


@rule("hwpt_alloc.nested.dirty_parent")
def test_parent_may_track_dirty_pages(iommufd, mock_device, ioas, hwpt_type, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    parent = iommufd.hwpt_alloc(mock_device, ioas, flags=flags)
    iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid(iotlb=2)).check_iotlb(0, 2)


@rule("hwpt_alloc.nested.parent_of_other_device")
def test_parent_may_be_made_for_another_device(
    iommufd, mock_devices, other_ioas, parent_hwpt, hwpt_type
):
    other = mock_devices(other_ioas)
    iommufd.hwpt_alloc(other, parent_hwpt, hwpt_type.valid(iotlb=3)).check_iotlb(0, 3)
