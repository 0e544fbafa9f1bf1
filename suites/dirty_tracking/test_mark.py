# SPDX-License-Identifier: GPL-2.0-only
"""DIRTY of iommufd_test, which stands for a device that writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

from .conftest import MOCK_PAGE, MOST, PAGE

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Hwpt

    from .conftest import Tracked

UNKNOWN = 9999
NO_HWPT = ["other_ioas", "mock_device", "nested_hwpt", "fault_queue"]
WRONG = {
    "page_size_zero": {"page_size": 0},
    "length_zero": {"length": 0},
    "iova_unaligned": {"iova": (1 << 24) + 1024},
    "length_unaligned": {"length": PAGE + 1024},
    "no_bitmap": {"bitmap": 0},
}


@rule("dirty_tracking.mark.range")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_range(expected, tracked, wrong):
    given = {"iova": tracked.iova, "length": PAGE, "page_size": MOCK_PAGE}
    with expected:
        tracked.hwpt.mark_dirty(**(given | {"bitmap": tracked.bitmap.address} | wrong))


@rule("dirty_tracking.mark.too_many")
def test_too_many_bits(expected, tracked, unmapped):
    # a kernel without the limit must not come to marking so many
    length = (MOST + 1) * MOCK_PAGE
    with expected:
        tracked.hwpt.mark_dirty(tracked.iova, length, MOCK_PAGE, unmapped)


@rule("dirty_tracking.mark.hwpt_id")
def test_id_that_names_nothing(expected, dirty_hwpt):
    dirty_hwpt.id = UNKNOWN
    with expected:
        dirty_hwpt.mark_dirty(1 << 24, PAGE, MOCK_PAGE, 1)


@rule("dirty_tracking.mark.hwpt_id")
@pytest.mark.parametrize("kind", NO_HWPT)
def test_id_of_something_else(expected, dirty_hwpt, kind, request):
    dirty_hwpt.id = request.getfixturevalue(kind).id
    with expected:
        dirty_hwpt.mark_dirty(1 << 24, PAGE, MOCK_PAGE, 1)


@rule("dirty_tracking.mark.off")
def test_tracking_is_off(expected, untracked):
    with expected:
        untracked.mark(0)


@rule("dirty_tracking.mark.not_tracking")
@pytest.mark.parametrize("kind", ["hwpt", "auto_hwpt"])
def test_hwpt_without_tracking(expected, tracked, kind, request):
    wrong: Hwpt = request.getfixturevalue(kind)
    with expected:
        wrong.mark_dirty(tracked.iova, PAGE, MOCK_PAGE, tracked.bitmap)


@rule("dirty_tracking.mark.unreadable")
def test_bitmap_that_is_not_there(expected, tracked, unmapped):
    for at in (unmapped, unmapped - 1):
        with expected:
            tracked.hwpt.mark_dirty(tracked.iova, tracked.length, MOCK_PAGE, at)
    assert tracked.read() == set()


@rule("dirty_tracking.mark.counts")
@pytest.mark.parametrize("pages", [(), (1, 2, 3, 15)], ids=str)
def test_count(tracked, pages):
    assert tracked.mark(*pages) == 2 * len(pages)
    assert tracked.mark(*pages, half=1) == len(pages)


def _map_what_is_marked(tracked: Tracked, buffer: Buffer) -> None:
    tracked.ioas.map(buffer, iova=tracked.iova + buffer.size)


@rule("dirty_tracking.mark.unmapped")
def test_unmapped_pages(tracked, buffer):
    tracked.length *= 2
    assert tracked.mark(15, 16, 20) == 2
    _map_what_is_marked(tracked, buffer)
    assert tracked.read() == {15}


@rule("dirty_tracking.mark.unmapped_counted")
def test_unmapped_pages_are_counted(tracked, buffer):
    tracked.length *= 2
    assert tracked.mark(15, 16, 20) == 6
    _map_what_is_marked(tracked, buffer)
    assert tracked.read() == {15}
