# SPDX-License-Identifier: GPL-2.0-only
"""What is looked at before the driver is asked."""

from __future__ import annotations

from errno import EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

from .conftest import UNKNOWN, entry

if TYPE_CHECKING:
    from pytest_iommufd.rules.expectation import Expectation

OTHER_TYPES = ["ioas", "auto_hwpt", "parent_hwpt", "hwpt", "mock_device", "fault_queue"]
TOO_MANY = (1 << 19) + 1


def count_of(expected: Expectation) -> int:
    assert expected.error
    assert expected.error.struct
    return int(expected.error.struct.entry_num)


@rule("invalidate.size.below_minimum")
def test_size_below_the_minimum(expected, invalidate, nested_hwpt):
    for size in [0, 4, 24, 31]:
        with expected:
            invalidate(nested_hwpt, entry(0), size=size)
        assert count_of(expected) == 1


@rule("invalidate.size.tail_zero")
def test_tail_of_zeroes(expected, invalidate, nested_hwpt):
    with expected, nested_hwpt.context.sending(tail=bytes(8)):
        assert invalidate(nested_hwpt, entry(0)) == 1


@rule("invalidate.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, invalidate, nested_hwpt):
    with expected, nested_hwpt.context.sending(tail=b"\0\0\0\1"):
        invalidate(nested_hwpt, entry(0))


@rule("invalidate.reserved")
def test_reserved_is_not_zero(expected, invalidate, target, good):
    for value in [1, 1 << 31]:
        with expected:
            invalidate(target, good, __reserved=value)
        assert count_of(expected) == 0


@rule("invalidate.reserved.first")
def test_reserved_is_looked_at_first(expected, invalidate):
    with expected:
        invalidate(UNKNOWN, entry(0), __reserved=1, entry_len=0, data_uptr=0)


@rule("invalidate.array.no_pointer")
def test_array_without_a_pointer(expected, invalidate, target, good):
    with expected:
        invalidate(target, good, data_uptr=0)
    assert count_of(expected) == 0


@rule("invalidate.array.no_length")
def test_array_of_empty_entries(expected, invalidate, target, good):
    with expected:
        invalidate(target, good, entry_len=0)
    assert count_of(expected) == 0


@rule("invalidate.array.entry_beyond_a_page")
def test_entry_longer_than_a_page(expected, invalidate, target, good, page_size):
    for more in [1, 4096, 0xFFFF_EFFF]:
        with expected:
            invalidate(target, good, entry_len=page_size + more)
        assert expected.defect or count_of(expected) == 0


@rule("invalidate.array.too_many")
def test_too_many_entries(expected, invalidate, target, good):
    for number in [TOO_MANY, 0xFFFF_FFFF]:
        with expected:
            invalidate(target, good, entry_num=number)
        assert expected.defect or count_of(expected) == 0


@rule("invalidate.array.before_id")
def test_array_is_looked_at_before_the_id(expected, invalidate):
    for fields in [
        {"data_uptr": 0},
        {"entry_len": 0},
        {"entry_len": 4097},
        {"entry_num": TOO_MANY},
    ]:
        with expected:
            invalidate(UNKNOWN, entry(0), **fields)


@rule("invalidate.array.most")
def test_most_entries_are_taken(expected, invalidate, nested_hwpt, page_before_hole, page_size):
    with expected:
        invalidate(nested_hwpt, entry_num=1 << 19, data_uptr=page_before_hole)
    assert count_of(expected) == page_size // 8


@rule("invalidate.array.none")
def test_no_entries(expected, invalidate, target):
    for fields in [
        {},
        {"data_uptr": 0},
        {"data_uptr": 1},
        {"entry_len": 0},
        {"entry_len": 0xFFFF_FFFF},
    ]:
        with expected:
            assert invalidate(target, **fields) == 0


@rule("invalidate.id.names_nothing")
def test_id_names_nothing(expected, invalidate):
    for number in [0, UNKNOWN, 0x7FFF_FFFF, 0xFFFF_FFFF]:
        for entries in [0, 1]:
            with expected:
                invalidate(number, *[entry(0)] * entries)
            assert count_of(expected) == 0


@rule("invalidate.id.destroyed")
def test_id_of_a_destroyed_hwpt(expected, invalidate, nested_hwpt):
    nested_hwpt.destroy()
    with expected:
        invalidate(nested_hwpt, entry(0))


@rule("invalidate.id.other_type")
@pytest.mark.parametrize("entries", [0, 1])
def test_id_of_another_type(expected, invalidate, request, entries):
    for kind in OTHER_TYPES:
        wrong = request.getfixturevalue(kind)
        with expected:
            invalidate(wrong, *[entry(0)] * entries)
        assert count_of(expected) == 0


@rule("invalidate.id.other_type.nesting")
@pytest.mark.parametrize("entries", [0, 1])
def test_id_of_what_belongs_to_a_viommu(expected, invalidate, vdevice, veventq, entries):
    for wrong in (vdevice, veventq):
        with expected:
            invalidate(wrong, *[entry(0)] * entries)
        assert count_of(expected) == 0


@rule("invalidate.output.only_the_count")
def test_only_the_count_is_written(iommufd, nested_hwpt, unmapped):
    with raises_errno(EOPNOTSUPP) as caught:
        iommufd.ioctl(
            "IOMMU_HWPT_INVALIDATE",
            hwpt_id=nested_hwpt,
            data_uptr=unmapped,
            data_type=77,
            entry_len=5,
            entry_num=6,
            __reserved=7,
        )
    got = caught[0].struct
    assert got
    assert (got.hwpt_id, got.data_uptr, got.entry_num) == (nested_hwpt.id, unmapped, 0)
    assert (got.data_type, got.entry_len, got["__reserved"]) == (77, 5, 7)


@rule("invalidate.output.unwritable")
def test_count_cannot_be_written(expected, iommufd, unwritable, nested_hwpt, iotlb):
    with expected:
        unwritable(
            "IOMMU_HWPT_INVALIDATE",
            hwpt_id=nested_hwpt,
            data_uptr=iommufd.put(entry(1)),
            data_type=iommufd.uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
            entry_len=8,
            entry_num=1,
        )
    iotlb(1)


@rule("invalidate.output.unwritable_after_error")
def test_count_cannot_be_written_after_an_error(expected, unwritable):
    for fields in [{"__reserved": 1}, {"hwpt_id": UNKNOWN}]:
        with expected:
            unwritable("IOMMU_HWPT_INVALIDATE", **fields)


@rule("invalidate.failure.lookup")
def test_lookup_fails(expected, invalidate, target, good):
    with expected, target.context.sending(fail_nth=1):
        invalidate(target, good)
    assert count_of(expected) == 0
    assert invalidate(target, good) == 1
