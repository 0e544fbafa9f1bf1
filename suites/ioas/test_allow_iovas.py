# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_ALLOW_IOVAS: where the kernel may choose IOVAs."""

from __future__ import annotations

import struct
from errno import EADDRINUSE, EINVAL, ENOSPC

import pytest

from pytest_iommufd import raises_errno, rule

PAGE = 0x1000
LAST = (1 << 64) - 1
FIRST_PLACE = (0x10_0000, 0x10_FFFF)
OTHER_PLACE = (0x20_0000, 0x20_FFFF)


@rule("ioas.allow.binds")
def test_automatic_iova_is_in_an_allowed_range(ioas, buffer):
    ioas.allow_iovas(OTHER_PLACE, FIRST_PLACE)
    assert {ioas.map(buffer), ioas.map(buffer)} == {FIRST_PLACE[0], OTHER_PLACE[0]}
    with raises_errno(ENOSPC):
        ioas.map(buffer)


@rule("ioas.allow.too_small")
def test_allowed_ranges_are_too_small(expected, ioas, buffer, page_size):
    ioas.allow_iovas((0x10_0000, 0x10_EFFF), (0x11_0000, 0x11_EFFF))
    with expected:
        ioas.map(buffer)
    ioas.map(buffer, buffer.size - page_size)


@rule("ioas.allow.not_joined")
def test_adjacent_ranges_are_one(ioas, buffer):
    middle = FIRST_PLACE[0] + 0x8000
    ioas.allow_iovas((FIRST_PLACE[0], middle - 1), (middle, FIRST_PLACE[1]))
    assert ioas.map(buffer) == FIRST_PLACE[0]


@rule("ioas.allow.fixed")
def test_fixed_iova_may_be_elsewhere(ioas, buffer):
    ioas.allow_iovas(FIRST_PLACE)
    assert ioas.map(buffer, iova=OTHER_PLACE[0]) == OTHER_PLACE[0]


@rule("ioas.allow.areas")
def test_what_is_mapped_elsewhere_stays(ioas, buffer):
    iova = ioas.map(buffer, iova=OTHER_PLACE[0])
    ioas.allow_iovas(FIRST_PLACE)
    assert ioas.unmap(iova, buffer.size) == buffer.size


@rule("ioas.allow.replaces")
def test_new_list_takes_the_place_of_the_old(ioas, buffer):
    ioas.allow_iovas(FIRST_PLACE)
    ioas.allow_iovas(OTHER_PLACE)
    assert ioas.map(buffer) == OTHER_PLACE[0]


@rule("ioas.allow.empty")
def test_empty_list_allows_all(ioas, buffer):
    ioas.allow_iovas(FIRST_PLACE)
    ioas.allow_iovas()
    ioas.map(buffer)
    ioas.map(buffer)


@rule("ioas.allow.everything")
def test_one_range_may_be_all_there_is(ioas, buffer):
    ioas.allow_iovas((0, LAST))
    ioas.map(buffer)


@rule("ioas.allow.many")
def test_many_ranges(ioas, buffer):
    places = [(number << 24, (number << 24) + 0xFFFF) for number in range(1, 101)]
    ioas.allow_iovas(*places[::-1])
    assert {ioas.map(buffer) for _ in places} == {first for first, _ in places}


@rule("ioas.allow.order")
@pytest.mark.parametrize("wrong", [(6, 5), (LAST, 0)])
def test_range_must_not_be_reversed(expected, ioas, wrong):
    with expected:
        ioas.allow_iovas(FIRST_PLACE, wrong)


@rule("ioas.allow.one_byte")
@pytest.mark.parametrize("iova", [0, 5, LAST])
def test_range_may_be_one_byte(expected, ioas, iova):
    with expected:
        ioas.allow_iovas(FIRST_PLACE, (iova, iova))


@rule("ioas.allow.two_bytes")
def test_range_may_be_two_bytes(ioas):
    ioas.allow_iovas((5, 6), (LAST - 1, LAST))


@rule("ioas.allow.overlap")
@pytest.mark.parametrize("other", [(10, 20), (3, 4)])
def test_ranges_must_not_overlap(expected, ioas, other):
    with expected:
        ioas.allow_iovas((0, 10), other)


@rule("ioas.allow.unreadable")
@pytest.mark.parametrize(("number", "readable"), [(1, 0), (2, 1), (1 << 31, 0)])
def test_array_cannot_be_read(expected, ioas, unmapped, number, readable):
    at = unmapped - 16 * readable
    ioas.context.process.write(unmapped - 16, (1).to_bytes(16, "big"))
    with expected:
        ioas.allow_iovas(num_iovas=number, allowed_iovas=at)


@rule("ioas.allow.in_order")
def test_earlier_range_is_told_before_what_cannot_be_read(expected, ioas, unmapped):
    ioas.context.process.write(unmapped - 16, struct.pack("<QQ", 6, 5))
    with expected:
        ioas.allow_iovas(num_iovas=2, allowed_iovas=unmapped - 16)


@rule("ioas.allow.no_array")
def test_no_range_needs_no_array(ioas, unmapped):
    ioas.allow_iovas(allowed_iovas=unmapped)


@rule("ioas.allow.reserved_iova")
@pytest.mark.parametrize("place", [(0xFFF, PAGE), (0x1FFF, 2 * PAGE)])
def test_reserved_iova_cannot_be_allowed(expected, ioas, place):
    ioas.add_reserved(PAGE, PAGE)
    with expected:
        ioas.allow_iovas(place)


@rule("ioas.allow.beside_reserved_iova")
def test_what_is_beside_reserved_iova_can_be_allowed(ioas):
    ioas.add_reserved(PAGE, PAGE)
    ioas.allow_iovas((0, 0xFFF), (2 * PAGE, LAST))


@rule("ioas.allow.aperture")
@pytest.mark.parametrize(("before", "after"), [(1, 0), (0, 1)], ids=["below", "above"])
def test_outside_the_aperture_cannot_be_allowed(
    expected, mock_device, ioas, aperture, before, after
):
    assert mock_device.id
    ioas.allow_iovas(aperture)
    with expected:
        ioas.allow_iovas((aperture[0] - before, aperture[1] + after))


@rule("ioas.allow.device")
@pytest.mark.parametrize("place", [(0, PAGE), (1 << 30, 1 << 31)], ids=["below", "above"])
def test_device_cannot_take_what_is_allowed(expected, iommufd, ioas, place):
    ioas.allow_iovas(place)
    with expected:
        iommufd.mock_device(ioas)
    assert ioas.iova_ranges() == [(0, LAST)]
    ioas.allow_iovas()
    iommufd.mock_device(ioas).destroy()


@rule("ioas.allow.old_list")
@pytest.mark.parametrize(
    ("wrong", "error"),
    [([(PAGE, 2 * PAGE)], EADDRINUSE), ([OTHER_PLACE, OTHER_PLACE], EINVAL)],
    ids=["reserved", "overlap"],
)
def test_refused_list_changes_nothing(ioas, buffer, wrong, error):
    ioas.add_reserved(PAGE, PAGE)
    ioas.allow_iovas(FIRST_PLACE)
    with raises_errno(error):
        ioas.allow_iovas(*wrong)
    assert ioas.map(buffer) == FIRST_PLACE[0]
    with raises_errno(ENOSPC):
        ioas.map(buffer)


@rule("ioas.allow.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_reserved_field(expected, ioas, bit):
    with expected:
        ioas.allow_iovas(__reserved=1 << bit)


@rule("ioas.allow.ioas_id")
def test_unknown_ioas(expected, ioas, unknown_id):
    with expected:
        ioas.allow_iovas(FIRST_PLACE, ioas_id=unknown_id)


@rule("ioas.allow.ioas_id.other_type")
def test_ioas_of_another_type(expected, ioas, auto_hwpt):
    with expected:
        ioas.allow_iovas(FIRST_PLACE, ioas_id=auto_hwpt)


@rule("ioas.add_reserved.length")
def test_nothing_to_reserve(expected, ioas):
    with expected:
        ioas.add_reserved(PAGE, 0)


@rule("ioas.add_reserved.overflow")
@pytest.mark.parametrize(("start", "length"), [(LAST, 2), (2, LAST)])
def test_reserved_range_wraps(expected, ioas, start, length):
    with expected:
        ioas.add_reserved(start, length)


@rule("ioas.add_reserved.ioas_id")
def test_reserving_in_no_ioas(expected, iommufd, no_ioas):
    with expected:
        iommufd.test("add_reserved", no_ioas, add_reserved={"start": 0, "length": 1})


@rule("ioas.add_reserved.in_use")
@pytest.mark.parametrize("start", [0x0, 0x1FFF], ids=hex)
@pytest.mark.parametrize("use", ["area", "allowed"])
def test_what_is_in_use_cannot_be_reserved(expected, ioas, buffer, start, use):
    if use == "area":
        ioas.map(buffer, PAGE, iova=PAGE)
    else:
        ioas.allow_iovas((PAGE, 0x1FFF))
    with expected:
        ioas.add_reserved(start, 0x1001)
    ioas.add_reserved(2 * PAGE, PAGE)
    ioas.add_reserved(0, PAGE)
