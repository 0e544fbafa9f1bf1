# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_HWPT_GET_DIRTY_BITMAP takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import Hwpt
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import MOCK_PAGE, PAGE, Tracked

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999
NO_CLEAR = 1
NO_HWPT = ["other_ioas", "nested_hwpt"]
LAST = (1 << 64) - 1


@pytest.fixture
def by_mock_pages(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    buffer: Buffer,
    bitmap: Buffer,
    uapi: Uapi,
) -> Tracked:
    """Sixteen pages in an IOAS that maps mock pages of 2048 bytes."""
    start = ioas.map(buffer, iova=uapi.MOCK_APERTURE_START)
    made = iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    made.set_dirty_tracking()
    return Tracked(made, ioas, start, buffer.size, bitmap)


@rule("dirty_tracking.get.flags")
def test_unknown_flag(expected, tracked, uapi):
    spare = spare_flags(uapi, "iommu_hwpt_get_dirty_bitmap.flags")
    for flags in [spare[0], spare[0] | NO_CLEAR, spare[-1]]:
        with expected:
            tracked.read(flags=flags)


@rule("dirty_tracking.get.reserved")
@pytest.mark.parametrize("value", [1, 1 << 31], ids=hex)
def test_reserved(expected, tracked, value):
    with expected:
        tracked.read(__reserved=value)


@rule("dirty_tracking.get.hwpt_id")
def test_id_that_names_nothing(expected, tracked):
    with expected:
        tracked.read(hwpt_id=UNKNOWN)


@rule("dirty_tracking.get.hwpt_id")
@pytest.mark.parametrize("kind", NO_HWPT)
def test_id_of_something_else(expected, tracked, kind, request):
    wrong = request.getfixturevalue(kind)
    with expected:
        tracked.read(hwpt_id=wrong)


@rule("dirty_tracking.get.other_context")
def test_hwpt_of_another_context(expected, other_iommufd, tracked):
    seen = Hwpt(other_iommufd, tracked.hwpt.id)
    with expected:
        seen.get_dirty_bitmap(tracked.iova, PAGE, PAGE, tracked.bitmap)


@rule("dirty_tracking.get.not_tracking")
@pytest.mark.parametrize("kind", ["hwpt", "auto_hwpt"])
@pytest.mark.parametrize("flags", [0, 1], ids=["clear", "no_clear"])
def test_hwpt_without_tracking(expected, tracked, kind, flags, request):
    wrong: Hwpt = request.getfixturevalue(kind)
    with expected:
        tracked.read(hwpt_id=wrong, flags=flags)


@rule("dirty_tracking.get.length_zero")
def test_length_of_zero(expected, tracked):
    for iova in (0, tracked.iova):
        with expected:
            tracked.read(iova=iova, length=0)


@rule("dirty_tracking.get.overflow")
@pytest.mark.parametrize(
    ("iova", "length"),
    [(LAST - 2047, MOCK_PAGE + PAGE), (PAGE, LAST - 2047), (LAST, 2), (2, LAST)],
    ids=["last_page", "longest", "last_byte", "all"],
)
def test_range_beyond_the_last_iova(expected, tracked, iova, length):
    with expected:
        tracked.hwpt.get_dirty_bitmap(iova, length, MOCK_PAGE, tracked.bitmap)


@rule("dirty_tracking.get.last_iova")
@pytest.mark.parametrize("length", [PAGE, 1 << 20])
def test_range_to_the_last_iova(expected, tracked, length):
    tracked.reject(expected, iova=LAST + 1 - length, length=length)


@rule("dirty_tracking.get.iova_unaligned")
@pytest.mark.parametrize("offset", [1, 1024])
def test_unaligned_iova(expected, by_mock_pages, offset):
    with expected:
        by_mock_pages.read(
            1, iova=by_mock_pages.iova + offset, length=2 * MOCK_PAGE - offset, offset=0
        )


@rule("dirty_tracking.get.iova_unaligned")
def test_iova_within_a_page(expected, tracked):
    with expected:
        tracked.read(MOCK_PAGE, iova=tracked.iova + MOCK_PAGE, length=MOCK_PAGE)


@rule("dirty_tracking.get.end_unaligned")
@pytest.mark.parametrize("length", [1, 1024, 2049])
def test_unaligned_end(expected, by_mock_pages, length):
    with expected:
        by_mock_pages.read(1, length=length)


@rule("dirty_tracking.get.end_unaligned")
def test_end_within_a_page(expected, tracked):
    with expected:
        tracked.read(MOCK_PAGE, length=PAGE + MOCK_PAGE)


@rule("dirty_tracking.get.mock_page")
@pytest.mark.parametrize("offset", [0, MOCK_PAGE])
def test_single_mock_page(by_mock_pages, offset):
    iova = by_mock_pages.iova + offset
    assert by_mock_pages.read(MOCK_PAGE, iova=iova, length=MOCK_PAGE) == set()


@rule("dirty_tracking.get.page_size_zero")
def test_page_size_of_zero(expected, tracked):
    with expected:
        tracked.hwpt.get_dirty_bitmap(tracked.iova, tracked.length, 0, tracked.bitmap)


@rule("dirty_tracking.get.page_size_iova")
@pytest.mark.parametrize("size", [2 * PAGE, 8 * PAGE])
def test_iova_within_a_given_page(expected, tracked, size):
    with expected:
        tracked.read(size, iova=tracked.iova + PAGE, length=size - PAGE)


@rule("dirty_tracking.get.page_size_end")
@pytest.mark.parametrize("size", [2 * PAGE, 1 << 24])
def test_end_within_a_given_page(expected, tracked, size):
    for length in (PAGE, 3 * PAGE):
        with expected:
            tracked.read(size, length=length)


@rule("dirty_tracking.get.page_size_odd")
@pytest.mark.parametrize(("size", "bit"), [(0x1800, 0x800), (0x3000, 0x1000)], ids=hex)
def test_page_size_that_is_no_power_of_two(tracked, size, bit):
    tracked.mark(1)
    tracked.bitmap.write(bytes(64))
    tracked.hwpt.get_dirty_bitmap(tracked.iova, 4 * PAGE, size, tracked.bitmap)
    count = PAGE // bit
    mask = (1 << count) - 1 << count
    assert int.from_bytes(tracked.bitmap.read(8), "little") == mask


@rule("dirty_tracking.get.memory")
def test_no_memory(expected, tracked):
    with expected, tracked.hwpt.context.sending(fail_nth=2):
        tracked.read()


@rule("dirty_tracking.get.memory.keeps")
def test_no_memory_loses_nothing(expected, tracked):
    tracked.mark(4)
    with expected, tracked.hwpt.context.sending(fail_nth=2):
        tracked.read()
    assert tracked.read() == {4}
