# SPDX-License-Identifier: GPL-2.0-only
"""Arrays for nested HWPTs, which the mock driver takes entry by entry."""

from __future__ import annotations

from pytest_iommufd import rule

from .conftest import entry
from .test_call import count_of

ALL, BAD_FLAG, BAD_SLOT = 1, 2, 4


@rule("invalidate.nested.type")
def test_type_is_not_the_drivers(expected, invalidate, nested_hwpt, iotlb):
    for number in [0, 1, 0xDADBEEF, 0xFFFF_FFFF]:
        for entries in [0, 1]:
            with expected:
                invalidate(nested_hwpt, *[entry(0)] * entries, data_type=number)
            assert count_of(expected) == 0
            iotlb()


@rule("invalidate.nested.type.before_array")
def test_type_is_looked_at_before_the_array(expected, invalidate, nested_hwpt, unmapped):
    with expected:
        invalidate(nested_hwpt, entry(0), data_type=0, data_uptr=unmapped)


@rule("invalidate.nested.length")
def test_entry_of_another_length(expected, invalidate, nested_hwpt):
    for length in [1, 4, 7, 9, 12, 16, 4096]:
        with expected:
            invalidate(nested_hwpt, bytes(length))
        assert count_of(expected) == 0


@rule("invalidate.nested.slot")
def test_one_slot(invalidate, nested_hwpt, iotlb):
    iotlb()
    for slot in range(4):
        assert invalidate(nested_hwpt, entry(slot)) == 1
        iotlb(*range(slot + 1))


@rule("invalidate.nested.slots")
def test_several_slots(invalidate, nested_hwpt, iotlb):
    assert invalidate(nested_hwpt, entry(0), entry(3), entry(0)) == 3
    iotlb(0, 3)


@rule("invalidate.nested.all")
def test_all_slots(invalidate, nested_hwpt, iotlb):
    assert invalidate(nested_hwpt, entry(2, ALL)) == 1
    iotlb(0, 1, 2, 3)


@rule("invalidate.nested.others_untouched")
def test_other_hwpts_are_left_alone(
    iommufd, invalidate, mock_device, parent_hwpt, nested_hwpt, hwpt_type
):
    other = iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid())
    invalidate(nested_hwpt, entry(0, ALL))
    other.check_iotlb(0, hwpt_type.sample["iotlb"])


@rule("invalidate.nested.attached")
def test_attached_hwpt(invalidate, mock_device, nested_hwpt, iotlb):
    mock_device.replace(nested_hwpt)
    assert invalidate(nested_hwpt, entry(1)) == 1
    iotlb(1)


@rule("invalidate.nested.of_a_viommu")
def test_hwpt_of_a_viommu(invalidate, viommu_hwpt, hwpt_type):
    assert invalidate(viommu_hwpt, entry(1)) == 1
    viommu_hwpt.check_iotlb(0, hwpt_type.sample["iotlb"])
    viommu_hwpt.check_iotlb(1, 0)


@rule("invalidate.nested.unreadable")
def test_array_that_cannot_be_read(expected, invalidate, nested_hwpt, unmapped):
    with expected:
        invalidate(nested_hwpt, entry(0), data_uptr=unmapped)
    assert count_of(expected) == 0


@rule("invalidate.nested.array_ends")
def test_array_that_ends_early(
    expected, invalidate, nested_hwpt, iotlb, page_before_hole, page_size
):
    start = page_before_hole.write(entry(1) + entry(2), page_size - 16)
    with expected:
        invalidate(nested_hwpt, entry_num=4, data_uptr=start)
    assert count_of(expected) == 2
    iotlb(1, 2)


@rule("invalidate.nested.flags")
def test_unknown_flag(expected, invalidate, nested_hwpt, iotlb):
    for flags in [BAD_FLAG, BAD_FLAG | ALL, 1 << 31]:
        with expected:
            invalidate(nested_hwpt, entry(0, flags))
        assert count_of(expected) == 0
        iotlb()


@rule("invalidate.nested.flags.before_slot")
def test_flag_is_looked_at_before_the_slot(expected, invalidate, nested_hwpt):
    with expected:
        invalidate(nested_hwpt, entry(BAD_SLOT, BAD_FLAG))


@rule("invalidate.nested.slot_beyond")
def test_slot_that_is_not_there(expected, invalidate, nested_hwpt, iotlb):
    for slot in [BAD_SLOT, 0xFFFF_FFFF]:
        with expected:
            invalidate(nested_hwpt, entry(slot))
        assert count_of(expected) == 0
        iotlb()


@rule("invalidate.nested.slot_beyond_with_all")
def test_slot_that_is_not_there_with_all(expected, invalidate, nested_hwpt, iotlb):
    with expected:
        invalidate(nested_hwpt, entry(BAD_SLOT, ALL))
    iotlb(*(() if expected.defect else range(4)))


@rule("invalidate.nested.stops_at_flags")
def test_what_is_before_a_bad_flag_is_done(expected, invalidate, nested_hwpt, iotlb):
    with expected:
        invalidate(nested_hwpt, entry(0), entry(1), entry(2, BAD_FLAG), entry(3))
    assert count_of(expected) == 2
    iotlb(0, 1)


@rule("invalidate.nested.stops_at_slot")
def test_what_is_before_a_bad_slot_is_done(expected, invalidate, nested_hwpt, iotlb):
    with expected:
        invalidate(nested_hwpt, entry(2), entry(BAD_SLOT), entry(3))
    assert count_of(expected) == 1
    iotlb(2)


@rule("invalidate.nested.many")
def test_as_many_entries_as_fit_into_pages(invalidate, nested_hwpt, buffer, iotlb):
    number = buffer.size // 8
    buffer.write(entry(3), buffer.size - 8)
    assert invalidate(nested_hwpt, entry_num=number, data_uptr=buffer) == number
    iotlb(0, 3)
