# SPDX-License-Identifier: GPL-2.0-only
"""Invalidations of HWPTs of the type, and of its vIOMMUs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import of_each

if TYPE_CHECKING:
    from pytest_iommufd.rules.expectation import Expectation


UNKNOWN_TYPES = [0xBEEF, 0xFFFF_FFFF]


def count_of(expected: Expectation) -> int:
    """Return how many entries the kernel says it has handled of a call that failed."""
    assert expected.error
    assert expected.error.struct
    return int(expected.error.struct.entry_num)


# ---- a HWPT's ----


@of_each("invalidate.valid", "invalidation")
def test_entries(invalidate):
    for number in (1, 2, 5):
        assert invalidate(*[invalidate.valid()] * number).entry_num == number


@of_each("invalidate.none", "invalidation")
def test_no_entry(invalidate):
    assert invalidate().entry_num == 0


@of_each("invalidate.type", "invalidation")
@pytest.mark.parametrize("entries", [0, 1])
def test_type_that_nobody_knows(expected, invalidate, entries):
    for number in UNKNOWN_TYPES:
        with expected:
            invalidate(*[invalidate.valid()] * entries, data_type=number)
        assert count_of(expected) == 0


@of_each("invalidate.length", "invalidation")
def test_length_of_an_entry(expected, invalidate, uapi):
    least = invalidate.declared.least(uapi)
    for length in {1, least - 1, invalidate.sizeof + 1, invalidate.sizeof + 8}:
        with expected:
            invalidate(invalidate.valid()[:length].ljust(length, b"\0"))
        assert count_of(expected) == 0


@of_each("invalidate.length.zero", "invalidation")
def test_length_of_0(expected, invalidate):
    with expected:
        invalidate(invalidate.valid(), entry_len=0)
    assert count_of(expected) == 0


@of_each("invalidate.null", "invalidation")
def test_no_array(expected, invalidate):
    with expected:
        invalidate(invalidate.valid(), data_uptr=0)
    assert count_of(expected) == 0


@of_each("invalidate.unreadable", "invalidation")
def test_array_cannot_be_read(expected, invalidate, unmapped):
    with expected:
        invalidate(invalidate.valid(), data_uptr=unmapped)
    assert count_of(expected) == 0


@of_each("invalidate.partly_readable", "invalidation")
def test_array_ends_early(expected, invalidate, page_before_hole):
    array = invalidate.valid() * 2
    at = page_before_hole.write(array, page_before_hole.size - len(array))
    with expected:
        invalidate(*[invalidate.valid()] * 3, data_uptr=at)
    assert count_of(expected) == 2


@of_each("invalidate.partly_valid", "invalidation")
@pytest.mark.parametrize("before", [0, 1, 3])
def test_an_entry_is_refused(expected, invalidate, before):
    bad, errno = invalidate.bad()
    good = invalidate.valid()
    with expected.as_declared(errno):
        invalidate(*[good] * before, bad, good)
    assert count_of(expected) == before


@of_each("invalidate.field.FIELD.inside", "invalidation")
def test_values_that_a_field_takes(expected, field, invalidate, uapi):
    for content in field.inside(uapi):
        with expected:
            invalidate(content)


@of_each("invalidate.field.FIELD.outside", "invalidation")
def test_values_that_a_field_does_not_take(expected, field, invalidate, uapi):
    for content in field.outside(uapi):
        with expected.as_declared(field.values.errno, field.values.defect):
            invalidate(content)
        assert expected.defect or count_of(expected) == 0


# ---- a vIOMMU's: the whole array is copied first, by the kernel's own helper ----


@of_each("viommu_invalidate.valid", "viommu_invalidation")
def test_entries_of_a_viommu(invalidate_viommu):
    for number in (1, 2, 5):
        assert invalidate_viommu(*[invalidate_viommu.valid()] * number).entry_num == number


@of_each("viommu_invalidate.none", "viommu_invalidation")
def test_no_entry_of_a_viommu(invalidate_viommu):
    assert invalidate_viommu().entry_num == 0


@of_each("viommu_invalidate.type", "viommu_invalidation")
@pytest.mark.parametrize("entries", [0, 1])
def test_type_that_nobody_knows_of_a_viommu(expected, invalidate_viommu, entries):
    for number in UNKNOWN_TYPES:
        with expected:
            invalidate_viommu(*[invalidate_viommu.valid()] * entries, data_type=number)
        assert count_of(expected) == 0


@of_each("viommu_invalidate.tail.zero", "viommu_invalidation")
def test_longer_entries_of_a_viommu(invalidate_viommu):
    longer = invalidate_viommu.valid() + bytes(8)
    assert invalidate_viommu(longer, longer).entry_num == 2


@of_each("viommu_invalidate.tail.nonzero", "viommu_invalidation")
def test_longer_entries_with_a_bit_set_there_of_a_viommu(expected, invalidate_viommu):
    longer = invalidate_viommu.valid() + bytes(8)
    with expected:
        invalidate_viommu(longer, longer[:-1] + b"\1")
    assert count_of(expected) == 0


@of_each("viommu_invalidate.unreadable", "viommu_invalidation")
def test_array_cannot_be_read_of_a_viommu(expected, invalidate_viommu, unmapped):
    with expected:
        invalidate_viommu(invalidate_viommu.valid(), data_uptr=unmapped)
    assert count_of(expected) == 0


@of_each("viommu_invalidate.partly_valid", "viommu_invalidation")
@pytest.mark.parametrize("before", [0, 1, 3])
def test_an_entry_is_refused_of_a_viommu(expected, invalidate_viommu, before):
    bad, errno = invalidate_viommu.bad()
    good = invalidate_viommu.valid()
    with expected.as_declared(errno):
        invalidate_viommu(*[good] * before, bad, good)
    assert count_of(expected) == before


@of_each("viommu_invalidate.field.FIELD.inside", "viommu_invalidation")
def test_values_that_a_field_takes_of_a_viommu(expected, field, invalidate_viommu, uapi):
    for content in field.inside(uapi):
        with expected:
            invalidate_viommu(content)


@of_each("viommu_invalidate.field.FIELD.outside", "viommu_invalidation")
def test_values_that_a_field_does_not_take_of_a_viommu(expected, field, invalidate_viommu, uapi):
    for content in field.outside(uapi):
        with expected.as_declared(field.values.errno, field.values.defect):
            invalidate_viommu(content)
        assert expected.defect or count_of(expected) == 0
