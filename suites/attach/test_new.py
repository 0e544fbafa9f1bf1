# SPDX-License-Identifier: GPL-2.0-only
"""Attaching a new device (MOCK_DOMAIN and MOCK_DOMAIN_FLAGS)."""

from __future__ import annotations

from errno import EFAULT, ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Hwpt, Ioas
    from pytest_iommufd.uapi import Uapi

ANY_HWPT = ["auto_hwpt", "hwpt", "parent_hwpt", "nested_hwpt", "dirty_hwpt"]
AREAS = ["ioas_outside_aperture", "ioas_unaligned", "ioas_allowed_outside"]
DEV_FLAGS = "iommu_test_cmd.mock_domain_flags.dev_flags"
NO_DIRTY = 1
OWN_HWPT = pytest.mark.no_fail_nth(
    "where a HWPT cannot be shared for want of memory the device gets one of its own"
)


@pytest.fixture
def unwritable_op(uapi: Uapi, unwritable: Callable[..., None]) -> Callable[[str, int], None]:
    """Makes a call of iommufd_test with a struct that cannot be written."""

    def call(op: str, target: int) -> None:
        number = getattr(uapi, f"IOMMU_TEST_OP_{op}")
        unwritable("IOMMU_TEST_CMD", op=number, id=target)

    return call


@rule("attach.new.pt_id")
@pytest.mark.parametrize("wrong", [0, 9999, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_id_that_names_nothing(expected, iommufd, wrong):
    with expected:
        iommufd.mock_device(wrong)


@rule("attach.new.pt_id")
def test_destroyed_ioas(expected, iommufd, destroyed_ioas):
    with expected:
        iommufd.mock_device(destroyed_ioas)


@rule("attach.new.pt_type")
@pytest.mark.parametrize("kind", ["mock_device", "fault_queue"])
def test_id_of_something_else(expected, iommufd, kind, request):
    wrong = request.getfixturevalue(kind)
    with expected:
        iommufd.mock_device(wrong)


@rule("attach.new.pt_type")
def test_id_of_a_mock_device_itself(expected, iommufd, mock_device):
    with expected:
        iommufd.mock_device(mock_device.selftest)


@rule("attach.new.pt_type.viommu")
def test_id_of_a_viommu(expected, iommufd, viommu):
    with expected:
        iommufd.mock_device(viommu)


@rule("attach.new.other_context")
def test_ioas_of_another_context(expected, other_iommufd, destroyed_ioas, iommufd):
    ioas = iommufd.ioas_alloc()
    assert ioas.id == destroyed_ioas.id
    with expected:
        other_iommufd.mock_device(ioas)


@rule("attach.new.flags")
def test_unknown_flag(expected, iommufd, ioas, uapi):
    spare = spare_flags(uapi, DEV_FLAGS)
    for flags in [*spare, spare[0] | NO_DIRTY, sum(spare)]:
        with expected:
            iommufd.mock_device(ioas, flags)
    ioas.destroy()


@rule("attach.new.flags.huge_iova")
@pytest.mark.parametrize("flags", [2, 3])
def test_flag_for_huge_pages(expected, iommufd, ioas, flags):
    with expected:
        iommufd.mock_device(ioas, flags)


@rule("attach.new.flags.pasid")
@pytest.mark.parametrize("flags", [4, 5])
def test_flag_for_pasids(expected, iommufd, ioas, flags):
    with expected:
        iommufd.mock_device(ioas, flags)


@rule("attach.new.flags.before_pt")
def test_flag_is_told_before_the_id(expected, iommufd, uapi):
    flag = spare_flags(uapi, DEV_FLAGS)[0]
    with expected:
        iommufd.mock_device(9999, flag)


@rule("attach.new.reserved")
@pytest.mark.parametrize("field", ["__reserved", "last"])
def test_reserved(iommufd, ioas, field):
    iommufd.test("mock_domain", ioas, **{field: 0xFFFF_FFFF})


@rule("attach.new.undone")
def test_failure_takes_no_ids(expected, iommufd, ioas):
    with expected:
        iommufd.mock_device(9999)
    assert [iommufd.ioas_alloc().id for _ in range(3)] == [ioas.id + number for number in (1, 2, 3)]


@rule("attach.new.unwritable")
def test_struct_cannot_be_written(expected, ioas, unwritable_op):
    with expected:
        unwritable_op("MOCK_DOMAIN", ioas.id)
    ioas.destroy()


@rule("attach.new.unwritable")
def test_struct_cannot_be_written_for_a_hwpt(expected, hwpt, unwritable_op):
    with expected:
        unwritable_op("MOCK_DOMAIN", hwpt.id)
    hwpt.destroy()


@rule("attach.new.hwpt")
@pytest.mark.parametrize("kind", ANY_HWPT)
def test_hwpts(iommufd, kind, request):
    target: Hwpt = request.getfixturevalue(kind)
    made = iommufd.mock_device(target)
    assert made.hwpt.id == target.id
    made.destroy()


@rule("attach.new.no_dirty")
def test_device_without_dirty_tracking(expected, iommufd, dirty_hwpt):
    with expected:
        iommufd.mock_device(dirty_hwpt, NO_DIRTY)


@rule("attach.new.no_dirty.undone")
def test_device_without_dirty_tracking_holds_nothing(expected, iommufd, dirty_hwpt):
    with expected:
        iommufd.mock_device(dirty_hwpt, NO_DIRTY)
    dirty_hwpt.destroy()


# ---- automatic HWPTs ----


@rule("attach.auto.new")
def test_ioas_gets_a_hwpt(mock_device, ioas):
    ids = {ioas.id, mock_device.id, mock_device.selftest.id, mock_device.hwpt.id}
    assert len(ids) == 4
    assert min(ids) > 0


@rule("attach.auto.shared")
@OWN_HWPT
def test_devices_share_a_hwpt(mock_devices):
    made = [mock_devices() for _ in range(4)]
    assert len({device.hwpt.id for device in made}) == 1
    assert len({device.id for device in made} | {device.selftest.id for device in made}) == 8


@rule("attach.auto.each_ioas")
def test_ioases_share_none(mock_devices, other_ioas):
    assert mock_devices().hwpt.id != mock_devices(other_ioas).hwpt.id


@rule("attach.auto.not_manual")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "dirty_hwpt"])
def test_manual_hwpt_is_not_shared(iommufd, mock_device, ioas, kind, request):
    manual: Hwpt = request.getfixturevalue(kind)
    mock_device.replace(manual)
    made = iommufd.mock_device(ioas)
    assert made.hwpt.id != manual.id


@rule("attach.auto.last")
def test_hwpt_is_gone_with_the_last_device(expected, iommufd, mock_devices):
    first, second = mock_devices(), mock_devices()
    first.destroy()
    assert mock_devices(second.hwpt).hwpt.id == second.hwpt.id
    only = mock_devices(iommufd.ioas_alloc())
    only.destroy()
    with expected:
        only.hwpt.destroy()


@rule("attach.auto.replaced")
def test_hwpt_is_gone_when_its_last_device_left(expected, mock_device, hwpt):
    mock_device.replace(hwpt)
    with expected:
        mock_device.hwpt.destroy()


@rule("attach.auto.by_hand")
def test_hwpt_stays_for_a_device_attached_by_hand(expected, mock_device, other_ioas, iommufd):
    other = iommufd.mock_device(other_ioas)
    other.replace(mock_device.hwpt)
    mock_device.destroy()
    with expected:
        mock_device.hwpt.destroy()
    other.destroy()
    with raises_errno(ENOENT):
        mock_device.hwpt.destroy()


@rule("attach.auto.mapped")
def test_hwpt_has_what_is_mapped(mock_devices, ioas, buffer, uapi):
    base = uapi.MOCK_APERTURE_START
    ioas.map(buffer, iova=base)
    auto = mock_devices().hwpt
    ioas.map(buffer, iova=base + buffer.size)
    for iova in (base, base + buffer.size):
        check_map(auto, iova, buffer, buffer.size)


@rule("attach.auto.no_dirty")
@OWN_HWPT
def test_device_without_dirty_tracking_shares_a_hwpt(mock_devices):
    assert mock_devices(no_dirty=True).hwpt.id == mock_devices().hwpt.id


# ---- what an IOAS must be like ----


@rule("attach.area.outside_aperture")
def test_area_outside_the_aperture(expected, iommufd, ioas_outside_aperture):
    with expected:
        iommufd.mock_device(ioas_outside_aperture)


@rule("attach.area.outside_aperture")
def test_area_above_the_aperture(expected, iommufd, ioas, buffer, uapi):
    last = uapi.MOCK_APERTURE_LAST + 1 - 2048
    ioas.map(buffer, 4096, iova=last)
    with expected:
        iommufd.mock_device(ioas)


@rule("attach.area.unaligned")
def test_unaligned_area(expected, iommufd, ioas_unaligned):
    with expected:
        iommufd.mock_device(ioas_unaligned)


@rule("attach.area.unaligned")
@pytest.mark.parametrize(
    ("iova", "address", "length"), [(16, 0, 4096), (0, 16, 4096), (0, 0, 4112)], ids=str
)
def test_each_alignment(expected, iommufd, ioas, buffer, uapi, iova, address, length):
    ioas.map(buffer.address + address, length, iova=uapi.MOCK_APERTURE_START + iova)
    with expected:
        iommufd.mock_device(ioas)


@rule("attach.area.allowed")
def test_allowed_range_outside_the_aperture(expected, iommufd, ioas_allowed_outside):
    with expected:
        iommufd.mock_device(ioas_allowed_outside)


@rule("attach.area.unpinnable")
def test_memory_that_is_gone(expected, iommufd, ioas_unpinnable):
    with expected:
        iommufd.mock_device(ioas_unpinnable)


@rule("attach.area.undone")
@pytest.mark.parametrize("kind", [*AREAS, "ioas_unpinnable"])
def test_failure_leaves_the_ioas_as_it_was(iommufd, kind, request):
    target: Ioas = request.getfixturevalue(kind)
    before = target.iova_ranges()
    with pytest.raises(OSError, match=r"EADDRINUSE|EFAULT"):
        iommufd.mock_device(target)
    assert target.iova_ranges() == before
    target.destroy()


@rule("attach.area.freed")
@pytest.mark.parametrize("kind", ["ioas_outside_aperture", "ioas_unaligned"])
def test_ioas_is_fit_again(iommufd, kind, request):
    target: Ioas = request.getfixturevalue(kind)
    target.unmap_all()
    iommufd.mock_device(target).destroy()


@rule("attach.aperture")
def test_aperture(mock_devices, ioas, uapi):
    before = ioas.iova_ranges()
    devices = [mock_devices(), mock_devices()]
    for device in devices:
        assert ioas.iova_ranges() == [(uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST)]
        device.destroy()
    assert ioas.iova_ranges() == before != [(uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST)]


@rule("attach.reserved")
@pytest.mark.parametrize("where", [OUTSIDE, 1 << 24, (1 << 31) - 4096], ids=hex)
def test_reserved_iova(mock_devices, ioas, where):
    ioas.add_reserved(where, 4096)
    before = ioas.iova_ranges()
    mock_devices().destroy()
    assert ioas.iova_ranges() == before


# ---- the struct of a replacement ----


@rule("attach.replace.unwritable")
def test_replaced_though_it_cannot_be_told(expected, mock_device, hwpt, unwritable, uapi):
    op, replace = uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, {"pt_id": hwpt}
    with expected:
        unwritable("IOMMU_TEST_CMD", op=op, id=mock_device.selftest, mock_domain_replace=replace)
    with raises_errno(ENOENT):
        mock_device.hwpt.destroy()
    assert expected.error is not None
    assert expected.error.errno == EFAULT
