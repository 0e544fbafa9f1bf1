# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_UNMAP: whole areas, all that are in a range."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map, check_refs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Ioas, MockDevice

LAST = (1 << 64) - 1
WITH_DEVICE = pytest.mark.parametrize("devices", [0, 2])


@pytest.fixture
def attached(mock_devices: Callable[..., MockDevice], devices: int) -> list[MockDevice]:
    """No, one or two devices attached to the IOAS."""
    return [mock_devices() for _ in range(devices)]


@pytest.fixture
def areas(ioas: Ioas, buffer: Buffer, base: int, page_size: int) -> int:
    """The IOVA of four areas of a page, each with a page's room behind it."""
    for number in range(4):
        ioas.map(buffer, page_size, iova=base + 2 * number * page_size)
    return base


@rule("ioas.unmap.whole")
@WITH_DEVICE
def test_unmapped_is_gone(attached, ioas, buffer, area, page_size):
    assert ioas.unmap(area, 2 * page_size) == 2 * page_size
    for device in attached:
        with raises_errno(EINVAL):
            check_map(device.hwpt, area, buffer, page_size)
    check_refs(ioas.context, buffer, buffer.size, 0)
    ioas.map(buffer, 2 * page_size, iova=area)


@rule("ioas.unmap.superset")
@WITH_DEVICE
def test_range_may_be_larger_than_what_is_mapped(attached, ioas, areas, page_size):
    assert ioas.unmap(areas - page_size, 10 * page_size) == 4 * page_size
    assert ioas.unmap_all() == 0 * len(attached)


@rule("ioas.unmap.contained")
@WITH_DEVICE
def test_only_areas_in_the_range_go(attached, ioas, buffer, areas, page_size):
    assert ioas.unmap(areas + page_size, 5 * page_size) == 2 * page_size
    for device in attached:
        check_map(device.hwpt, areas, buffer, page_size)
        check_map(device.hwpt, areas + 6 * page_size, buffer, page_size)
    assert ioas.unmap_all() == 2 * page_size


@rule("ioas.unmap.nothing")
@pytest.mark.parametrize(("first", "pages"), [(-1, 1), (2, 8)])
@WITH_DEVICE
def test_nothing_is_mapped_there(expected, attached, ioas, area, page_size, first, pages):
    with expected:
        ioas.unmap(area + first * page_size, pages * page_size)
    assert ioas.unmap_all() == 2 * page_size
    assert len(attached) <= 2


@rule("ioas.unmap.nothing_at_all")
@pytest.mark.parametrize("iova", [0, LAST - 0x1000], ids=hex)
def test_empty_ioas(expected, ioas, iova):
    with expected:
        ioas.unmap(iova, 0x1000)


@rule("ioas.unmap.twice")
def test_unmapped_twice(expected, ioas, area, page_size):
    ioas.unmap(area, 2 * page_size)
    with expected:
        ioas.unmap(area, 2 * page_size)


@rule("ioas.unmap.splits")
@pytest.mark.parametrize(
    ("first", "length"),
    [(0, 0x1FFF), (1, 0x1FFF), (0x800, 0x800)],
)
@WITH_DEVICE
def test_area_is_not_split(expected, attached, ioas, buffer, area, page_size, first, length):
    with expected:
        ioas.unmap(area + first, length)
    for device in attached:
        check_map(device.hwpt, area, buffer, 2 * page_size)
    assert ioas.unmap_all() == 2 * page_size


@rule("ioas.unmap.splits_later")
@pytest.mark.parametrize("length", [0x2001, 0x2FFF])
def test_what_was_before_the_split_is_gone(expected, ioas, areas, page_size, length):
    with expected:
        ioas.unmap(areas, length)
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.length == length
    with raises_errno(ENOENT):
        ioas.unmap(areas, page_size)
    assert ioas.unmap_all() == 3 * page_size


@rule("ioas.unmap.length_zero")
@pytest.mark.parametrize("iova", [0, LAST - 1], ids=hex)
def test_nothing_to_unmap(expected, ioas, iova):
    with expected:
        ioas.unmap(iova, 0)


@rule("ioas.unmap.extremes")
@pytest.mark.parametrize(("iova", "length"), [(LAST, 1), (LAST, 0), (LAST, LAST), (1, LAST)])
def test_largest_numbers(expected, ioas, iova, length):
    with expected:
        ioas.unmap(iova, length)


@rule("ioas.unmap.wraps")
@pytest.mark.parametrize(("iova", "length"), [(LAST - 1, 3), (1 << 63, LAST - 1), (2, LAST - 0)])
def test_range_wraps(expected, ioas, iova, length):
    with expected:
        ioas.unmap(iova, length)


@rule("ioas.unmap.to_the_end")
def test_last_byte_can_be_unmapped(ioas, buffer, page_size):
    iova = ioas.map(buffer, page_size, iova=LAST - page_size + 1)
    assert ioas.unmap(iova, page_size) == page_size


@rule("ioas.unmap.all")
@WITH_DEVICE
def test_all(attached, ioas, areas, page_size):
    assert ioas.unmap_all() == 4 * page_size
    with raises_errno(ENOENT):
        ioas.unmap(areas, page_size)
    assert len(attached) <= 2


@rule("ioas.unmap.all_of_nothing")
def test_all_of_an_empty_ioas(ioas):
    assert ioas.unmap_all() == 0
    assert ioas.unmap_all() == 0


@rule("ioas.unmap.ioas_id")
def test_unknown_ioas(expected, ioas, unknown_id):
    with expected:
        ioas.unmap(0, LAST, ioas_id=unknown_id)


@rule("ioas.unmap.ioas_id.other_type")
def test_ioas_of_another_type(expected, ioas, auto_hwpt):
    with expected:
        ioas.unmap(0, LAST, ioas_id=auto_hwpt)


@rule("ioas.unmap.unwritable")
def test_struct_cannot_be_written(expected, ioas, area, page_size, unwritable):
    with expected:
        unwritable("IOMMU_IOAS_UNMAP", ioas_id=ioas, iova=area, length=2 * page_size)
    assert ioas.unmap_all() == 0
