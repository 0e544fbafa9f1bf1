# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_HWPT_GET_DIRTY_BITMAP cannot report, and what it loses without an error."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

from .conftest import PAGE, from_bitmap

if TYPE_CHECKING:
    from .conftest import Tracked

NO_CLEAR = 1
WHERE = ["null", "unmapped", "not_of_a_process"]


@pytest.fixture(params=WHERE)
def nowhere(request: pytest.FixtureRequest, unmapped: int) -> int:
    """Addresses that cannot be written, one after the other."""
    return {"null": 0, "unmapped": unmapped, "not_of_a_process": 1 << 63}[request.param]


def _get(tracked: Tracked, at: int, flags: int = 0) -> None:
    tracked.hwpt.get_dirty_bitmap(tracked.iova, tracked.length, PAGE, at, flags=flags)


@rule("dirty_tracking.get.unmapped")
def test_nothing_mapped(expected, tracked):
    tracked.ioas.unmap_all()
    tracked.reject(expected)


@rule("dirty_tracking.get.hole")
@pytest.mark.parametrize("gap", [1, 100])
def test_hole(expected, tracked, buffer, gap):
    tracked.ioas.map(buffer, iova=tracked.iova + tracked.length + gap * PAGE)
    tracked.length = 2 * tracked.length + gap * PAGE
    tracked.mark(3, 16 + gap)
    tracked.reject(expected, {3})


@rule("dirty_tracking.get.hole")
def test_hole_at_the_end(expected, tracked):
    tracked.mark(3)
    tracked.reject(expected, {3}, length=2 * tracked.length)


@rule("dirty_tracking.get.hole.first")
def test_hole_at_the_beginning(expected, tracked):
    tracked.ioas.map(tracked.bitmap, PAGE, iova=tracked.iova + 100 * PAGE)
    start, length = tracked.iova + tracked.length, 101 * PAGE - tracked.length
    tracked.reject(expected, iova=start, length=length)


@rule("dirty_tracking.get.outside")
@pytest.mark.parametrize("iova", [0x1000, 1 << 31], ids=hex)
def test_outside_the_aperture(expected, tracked, iova):
    tracked.reject(expected, iova=iova)


@rule("dirty_tracking.get.never_on")
@pytest.mark.parametrize("flags", [0, NO_CLEAR], ids=["clear", "no_clear"])
def test_never_switched_on(expected, untracked, flags):
    untracked.reject(expected, flags=flags)


@rule("dirty_tracking.get.off")
def test_switched_off(expected, tracked):
    tracked.mark(3)
    tracked.hwpt.set_dirty_tracking(enable=False)
    tracked.reject(expected)


@rule("dirty_tracking.get.off.told")
def test_switched_off_tells(tracked):
    tracked.mark(3)
    tracked.hwpt.set_dirty_tracking(enable=False)
    assert tracked.read() == {3}
    assert tracked.read() == set()


@rule("dirty_tracking.get.unwritable")
def test_bitmap_that_is_not_there(expected, tracked, nowhere):
    tracked.mark(3)
    with expected:
        _get(tracked, nowhere)


@rule("dirty_tracking.get.unwritable")
def test_bitmap_that_is_read_only(expected, tracked, readonly):
    tracked.mark(3)
    at = readonly(bytes(8))
    with expected:
        _get(tracked, at)
    assert tracked.hwpt.context.process.read(at, 8) == bytes(8)


@rule("dirty_tracking.get.unwritable.forgotten")
def test_bits_without_a_bitmap_are_lost(expected, tracked, nowhere):
    tracked.mark(3)
    with expected:
        _get(tracked, nowhere)
    assert tracked.read() == (set() if expected.defect else {3})


@rule("dirty_tracking.get.unwritable.no_clear")
def test_bits_without_a_bitmap_are_kept(expected, tracked, nowhere):
    tracked.mark(3)
    with expected:
        _get(tracked, nowhere, NO_CLEAR)
    assert tracked.read() == {3}


@rule("dirty_tracking.get.unwritable.part")
def test_half_of_the_bitmap(expected, tracked):
    tracked.mark(3, 7, 8, 12)
    tracked.bitmap.write(bytes(2 * PAGE))
    tracked.bitmap.protect(mmap.PROT_READ, PAGE, PAGE)
    with expected:
        _get(tracked, tracked.bitmap.address + PAGE - 1)
    written = from_bitmap(tracked.bitmap.read(2, PAGE - 1))
    tracked.bitmap.protect(mmap.PROT_READ | mmap.PROT_WRITE)
    assert written | tracked.read() == ({3, 7} if expected.defect else {3, 7, 8, 12})
