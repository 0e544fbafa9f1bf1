# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_HWPT_GET_DIRTY_BITMAP tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

from .conftest import BITMAP_SIZE, MOCK_PAGE, PAGE, Tracked, compare, from_bitmap

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer

NO_CLEAR = 1
KIB, MIB = 1 << 10, 1 << 20
# Less than a byte of bits, more than a word, and so many that an odd place crosses a page.
SIZES = {"8k": 8 * KIB, "320k": 320 * KIB, "16M": 16 * MIB}
# The larger one has a page of bits for mock pages. Several windows take far smaller pages: WINDOW.
HUGE_SIZES = {"2M": 2 * MIB, "64M": 64 * MIB}
HUGE_PAGE = 512 * MOCK_PAGE
OFFSETS = [0, 0xFF1]
# As much IOVA as one bit for each byte of it fills what the kernel pins of a bitmap at a time.
WINDOW = 512 * PAGE * 8

each_size = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
each_huge_size = pytest.mark.parametrize("size", HUGE_SIZES.values(), ids=HUGE_SIZES)


@rule("dirty_tracking.get.clean")
@pytest.mark.parametrize("flags", [0, NO_CLEAR], ids=["clear", "no_clear"])
def test_clean_pages(tracked, flags):
    assert tracked.read(flags=flags) == set()


@rule("dirty_tracking.get.dirty")
@pytest.mark.parametrize("pages", [{0}, {7, 8}, set(range(16))], ids=str)
def test_dirty_pages(tracked, pages):
    tracked.mark(*pages)
    assert tracked.read() == pages


@rule("dirty_tracking.get.once")
def test_told_once(tracked):
    tracked.mark(1, 9)
    assert tracked.read() == {1, 9}
    assert tracked.read() == set()
    tracked.mark(9)
    assert tracked.read() == {9}


@rule("dirty_tracking.get.no_clear")
def test_told_again(tracked):
    tracked.mark(1, 9)
    for _ in range(3):
        assert tracked.read(flags=NO_CLEAR) == {1, 9}


@rule("dirty_tracking.get.no_clear.then_clear")
def test_told_again_once(tracked):
    tracked.mark(1, 9)
    tracked.read(flags=NO_CLEAR)
    assert tracked.read() == {1, 9}
    assert tracked.read(flags=NO_CLEAR) == set()


@rule("dirty_tracking.get.part")
def test_part_of_an_area(tracked):
    tracked.mark(*range(16))
    assert tracked.read(iova=tracked.iova + 4 * PAGE, length=3 * PAGE) == {0, 1, 2}
    assert tracked.read() == {*range(4), *range(7, 16)}


@rule("dirty_tracking.get.first_bit")
def test_first_bit_is_the_first_page(tracked):
    tracked.mark(5)
    start = tracked.iova + 5 * PAGE
    assert tracked.read(iova=start, length=PAGE, flags=NO_CLEAR) == {0}
    assert tracked.read(iova=start - 3 * PAGE, length=4 * PAGE) == {3}


@rule("dirty_tracking.get.adds")
def test_bits_stay_set(tracked):
    tracked.mark(9)
    tracked.bitmap.write(b"\x05\x01")
    tracked.hwpt.get_dirty_bitmap(tracked.iova, tracked.length, PAGE, tracked.bitmap)
    assert from_bitmap(tracked.bitmap.read(2)) == {0, 2, 8, 9}


@rule("dirty_tracking.get.beside")
@pytest.mark.parametrize("offset", [0, 1, PAGE - 2], ids=hex)
def test_bits_beside_are_not_touched(tracked, offset):
    tracked.mark(*range(16))
    tracked.bitmap.write(bytes(2 * PAGE))
    at = tracked.bitmap.address + offset
    tracked.hwpt.get_dirty_bitmap(tracked.iova, 13 * PAGE, PAGE, at)
    told = from_bitmap(tracked.bitmap.read(2 * PAGE))
    assert told == {offset * 8 + bit for bit in range(13)}


@rule("dirty_tracking.get.areas")
def test_several_areas(tracked, buffer):
    for number in (1, 2):
        tracked.ioas.map(buffer, iova=tracked.iova + number * tracked.length)
    tracked.length *= 3
    tracked.mark(0, 15, 16, 40)
    assert tracked.read() == {0, 15, 16, 40}
    assert tracked.read() == set()


@rule("dirty_tracking.get.areas_in_part")
def test_parts_of_two_areas(tracked, buffer):
    tracked.ioas.map(buffer, iova=tracked.iova + tracked.length)
    tracked.length *= 2
    tracked.mark(13, 14, 15, 16, 17, 18)
    assert tracked.read(iova=tracked.iova + 14 * PAGE, length=4 * PAGE) == {0, 1, 2, 3}
    assert tracked.read() == {13, 18}


@rule("dirty_tracking.get.hwpts")
def test_each_hwpt_for_itself(iommufd, mock_device, tracked, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    other = iommufd.hwpt_alloc(mock_device, tracked.ioas, flags=flags)
    other.set_dirty_tracking()
    tracked.mark(3)
    assert tracked.read(hwpt_id=other) == set()
    assert tracked.read() == {3}


@rule("dirty_tracking.get.unmapped_meanwhile")
def test_mapped_again(tracked, buffer):
    tracked.mark(3)
    tracked.ioas.unmap(tracked.iova, tracked.length)
    tracked.ioas.map(buffer, iova=tracked.iova)
    assert tracked.read() == set()


@rule("dirty_tracking.get.mock_pages")
@pytest.mark.parametrize("half", [0, 1])
def test_half_a_page(tracked, half):
    tracked.mark(2, 5, half=half)
    assert tracked.read(MOCK_PAGE) == {4 + half, 10 + half}


@rule("dirty_tracking.get.entry")
@pytest.mark.parametrize("half", [0, 1])
def test_entry_of_a_page(tracked, half):
    tracked.mark(2, 5, half=half)
    compare(tracked.read(MOCK_PAGE), {4, 5, 10, 11}, {4, 10})


@rule("dirty_tracking.get.entry.ends_behind")
def test_entry_that_ends_behind_the_range(expected, tracked_huge):
    tracked = tracked_huge(2 * MIB)
    tracked.mark(0, half=0, page_size=HUGE_PAGE)
    tracked.bitmap.write(bytes(64))
    with expected:
        tracked.hwpt.get_dirty_bitmap(tracked.iova, PAGE, PAGE, tracked.bitmap)
    if expected.defect:
        assert from_bitmap(tracked.bitmap.read(64)) == set(range(HUGE_PAGE // PAGE))


@rule("dirty_tracking.get.entry.begins_before")
@pytest.mark.parametrize("offset", [PAGE, HUGE_PAGE - PAGE], ids=hex)
def test_entry_that_begins_before_the_range(expected, tracked_huge, offset):
    tracked = tracked_huge(2 * MIB)
    tracked.mark(0, half=0, page_size=HUGE_PAGE)
    told: set[int] = set()
    with expected:
        told = tracked.read(iova=tracked.iova + offset, length=PAGE)
    if expected.defect:
        assert not told, "bits beyond the range are set"
        assert tracked.read() == set()


# ---- sizes ----


@rule("dirty_tracking.get.sizes")
@each_size
def test_each_size(tracked_size, size):
    tracked = tracked_size(size)
    even = range(0, size // PAGE, 2)
    for offset in OFFSETS:
        tracked.mark(*even)
        assert tracked.read(offset=offset) == set(even)
        assert tracked.read(offset=offset) == set()


@rule("dirty_tracking.get.sizes.no_clear")
@each_size
def test_each_size_without_forgetting(tracked_size, size):
    tracked = tracked_size(size)
    even = range(0, size // PAGE, 2)
    tracked.mark(*even)
    told = {bit for page in even for bit in (2 * page, 2 * page + 1)}
    for offset in OFFSETS:
        got = tracked.read(MOCK_PAGE, offset=offset, flags=NO_CLEAR)
        compare(got, told, {2 * page for page in even})


@rule("dirty_tracking.get.huge")
@each_huge_size
def test_huge_pages(tracked_huge, size):
    tracked = tracked_huge(size)
    even = range(0, size // HUGE_PAGE, 2)
    told = {page * 512 + bit for page in even for bit in range(512)}
    for offset in OFFSETS:
        tracked.mark(*even, half=0, page_size=HUGE_PAGE)
        assert tracked.read(MOCK_PAGE, offset=offset) == told
        assert tracked.read(MOCK_PAGE, offset=offset) == set()


@rule("dirty_tracking.get.huge.no_clear")
@each_huge_size
def test_huge_pages_without_forgetting(tracked_huge, size):
    tracked = tracked_huge(size)
    even = set(range(0, size // HUGE_PAGE, 2))
    tracked.mark(*even, half=0, page_size=HUGE_PAGE)
    for offset in OFFSETS:
        assert tracked.read(HUGE_PAGE, offset=offset, flags=NO_CLEAR) == even


@rule("dirty_tracking.get.alignment")
@pytest.mark.parametrize("offset", [1, 0x7FF, 0xFFE, 0xFFF], ids=hex)
def test_bitmap_at_any_byte(tracked, offset):
    tracked.mark(0, 7, 8, 15)
    assert tracked.read(offset=offset) == {0, 7, 8, 15}


@rule("dirty_tracking.get.alignment.pages")
@pytest.mark.parametrize("offset", [1, 0xF81], ids=hex)
def test_bits_of_a_page_cross_pages(tracked, offset):
    tracked.mark(0, 14)
    told = {page * PAGE + bit for page in (0, 14) for bit in range(PAGE)}
    compare(tracked.read(1, offset=offset), told, {bit for bit in told if bit % PAGE < MOCK_PAGE})


@rule("dirty_tracking.get.page_size")
@pytest.mark.parametrize("size", [1, 1024, 2048, 16384])
def test_page_sizes(tracked, size):
    tracked.mark(1, 6, 7, 12)
    at = [page * PAGE + byte for page in (1, 6, 7, 12) for byte in range(PAGE)]
    first_halves = {byte // size for byte in at if byte % PAGE < MOCK_PAGE}
    compare(tracked.read(size), {byte // size for byte in at}, first_halves)


@rule("dirty_tracking.get.page_size.whole")
@pytest.mark.parametrize("pages", [(), (15,), (3, 4)], ids=str)
def test_single_page(tracked, pages):
    tracked.mark(*pages)
    assert tracked.read(tracked.length) == ({0} if pages else set())


@pytest.fixture
def wide(tracked: Tracked, buffers: Callable[..., Buffer]) -> Tracked:
    """A range of 32 MiB, with a bitmap for each byte of it."""
    area = buffers(MIB)
    tracked.ioas.unmap(tracked.iova, tracked.length)
    for start in range(0, 2 * WINDOW, area.size):
        tracked.ioas.map(area, iova=tracked.iova + start)
    bitmap = buffers(2 * WINDOW // 8 + PAGE)
    assert bitmap.size > BITMAP_SIZE
    return Tracked(tracked.hwpt, tracked.ioas, tracked.iova, 2 * WINDOW, bitmap)


def _bytes_of(tracked: Tracked, first: int, offset: int = 0) -> bytes:
    """Return the bitmap's bytes for a page, with one before and one behind."""
    return tracked.bitmap.read(PAGE // 8 + 2, offset + first // 8 - 1)


ALL_OF_A_PAGE = b"\0" + b"\xff" * (PAGE // 8) + b"\0"
FIRST_HALF_OF_A_PAGE = b"\0" + b"\xff" * (MOCK_PAGE // 8) + bytes(MOCK_PAGE // 8 + 1)


def _get(tracked: Tracked, offset: int = 0) -> None:
    at = tracked.bitmap.address + offset
    tracked.bitmap.write(bytes(BITMAP_SIZE))  # what mark() has used
    tracked.hwpt.get_dirty_bitmap(tracked.iova, tracked.length, 1, at)


@rule("dirty_tracking.get.windows")
def test_bitmap_of_two_windows(wide):
    pages = (1, WINDOW // PAGE - 2, WINDOW // PAGE, 2 * WINDOW // PAGE - 2)
    wide.mark(*pages)
    _get(wide)
    for page in pages:
        compare(_bytes_of(wide, page * PAGE), ALL_OF_A_PAGE, FIRST_HALF_OF_A_PAGE)
    assert not any(wide.bitmap.read(PAGE, 3 * PAGE))


@rule("dirty_tracking.get.windows.unaligned")
@pytest.mark.parametrize("offset", [1, 0xFFF], ids=hex)
def test_unaligned_bitmap_of_two_windows(wide, offset):
    pages = (1, WINDOW // PAGE + 3, 2 * WINDOW // PAGE - 2)
    wide.mark(*pages)
    _get(wide, offset)
    for page in pages:
        compare(_bytes_of(wide, page * PAGE, offset), ALL_OF_A_PAGE, FIRST_HALF_OF_A_PAGE)


# Found by fail-nth: iova_bitmap_set() cannot report that the second window was not pinned.
@pytest.mark.no_fail_nth(
    "the bits of a window that there is no memory for are lost, without an error"
)
@rule("dirty_tracking.get.windows.crossed")
@pytest.mark.parametrize("offset", [1, 0x1FF], ids=hex)
def test_bits_of_a_page_in_two_windows(wide, offset):
    last = WINDOW // PAGE - 1
    wide.mark(last)
    _get(wide, offset)
    compare(_bytes_of(wide, last * PAGE, offset), ALL_OF_A_PAGE, FIRST_HALF_OF_A_PAGE)
