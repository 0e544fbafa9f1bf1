# SPDX-License-Identifier: GPL-2.0-only
"""Each start and each end within pages, of small memory and of huge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_map, check_refs
from pytest_iommufd.iommufd.memory import HUGE_PAGE_SIZE, Buffer

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Ioas

MOCK_PAGE = 2048
PLACE = 0x4000_0000
PARTS = 8
STARTS = pytest.mark.parametrize("start", range(0, PARTS * MOCK_PAGE, MOCK_PAGE), ids=hex)
# the first page's, and one in the middle of another
SOME_STARTS = pytest.mark.parametrize("start", [0, MOCK_PAGE, 3 * MOCK_PAGE], ids=hex)
# a huge page's edge, and around it
EDGES = (0, MOCK_PAGE, HUGE_PAGE_SIZE - MOCK_PAGE, HUGE_PAGE_SIZE, HUGE_PAGE_SIZE + MOCK_PAGE)
SOME_EDGES = (0, HUGE_PAGE_SIZE - MOCK_PAGE, HUGE_PAGE_SIZE + MOCK_PAGE)
ENDS = (*EDGES[1:], 2 * HUGE_PAGE_SIZE - MOCK_PAGE, 2 * HUGE_PAGE_SIZE)


def check_pins(ioas: Ioas, memory: Buffer, start: int, end: int, refs: int) -> None:
    """Check how often the pages of a range of bytes are pinned."""
    first = start // 0x1000 * 0x1000
    check_refs(ioas.context, memory.address + first, -(-end // 0x1000) * 0x1000 - first, refs)


@rule("pages.align.each")
@STARTS
def test_each_start_and_end(mock_device, ioas, buffer, start):
    for end in range(start + MOCK_PAGE, (PARTS + 1) * MOCK_PAGE, MOCK_PAGE):
        iova = ioas.map(buffer.address + start, end - start)
        check_map(mock_device.hwpt, iova, buffer.address + start, end - start)
        check_pins(ioas, buffer, start, end, 1)
        ioas.unmap(iova, end - start)
        check_pins(ioas, buffer, 0, buffer.size, 0)


@rule("pages.align.each_of_a_file")
@SOME_STARTS
def test_each_start_and_end_of_a_file(mock_device, ioas, memfd_buffer, start):
    for end in range(start + MOCK_PAGE, (PARTS + 1) * MOCK_PAGE, MOCK_PAGE):
        iova = ioas.map_file(memfd_buffer.fd, end - start, start=start)
        check_map(mock_device.hwpt, iova, memfd_buffer.address + start, end - start)
        check_pins(ioas, memfd_buffer, start, end, 1)
        ioas.unmap(iova, end - start)
        check_pins(ioas, memfd_buffer, 0, memfd_buffer.size, 0)


@rule("pages.align.device_while_mapped")
@SOME_STARTS
def test_each_start_and_end_for_a_second_device(mock_device, iommufd, ioas, buffer, start):
    for end in range(start + MOCK_PAGE, (PARTS + 1) * MOCK_PAGE, 2 * MOCK_PAGE):
        iova = ioas.map(buffer.address + start, end - start)
        second = iommufd.mock_device(iommufd.ioas_alloc())
        second.replace(ioas)
        check_map(mock_device.hwpt, iova, buffer.address + start, end - start)
        second.destroy()
        check_map(mock_device.hwpt, iova, buffer.address + start, end - start)
        check_pins(ioas, buffer, start, end, 1)
        ioas.unmap(iova, end - start)


@rule("pages.align.second_hwpt")
@SOME_STARTS
def test_each_start_and_end_for_a_second_hwpt(mock_device, iommufd, ioas, memfd_buffer, start):
    end = PARTS * MOCK_PAGE
    iova = ioas.map(memfd_buffer.address + start, end - start)
    second = iommufd.hwpt_alloc(mock_device, ioas)
    check_map(second, iova, memfd_buffer.address + start, end - start)
    check_pins(ioas, memfd_buffer, start, end, 1)
    second.destroy()
    check_map(mock_device.hwpt, iova, memfd_buffer.address + start, end - start)
    check_pins(ioas, memfd_buffer, start, end, 1)


@rule("pages.huge.hugetlb")
@pytest.mark.parametrize("start", EDGES, ids=hex)
def test_huge_pages(mock_device, ioas, huge_buffer, start):
    for end in (end for end in ENDS if end > start):
        iova = ioas.map(huge_buffer.address + start, end - start)
        check_map(mock_device.hwpt, iova, huge_buffer.address + start, end - start)
        assert ioas.unmap(iova, end - start) == end - start


@rule("pages.huge.hugetlb_file")
@pytest.mark.parametrize("start", SOME_EDGES, ids=hex)
def test_huge_pages_of_a_file(mock_device, ioas, huge_buffers, start):
    memory = huge_buffers(kind="memfd")
    for end in (end for end in ENDS if end > start):
        iova = ioas.map_file(memory.fd, end - start, start=start)
        check_map(mock_device.hwpt, iova, memory.address + start, end - start)
        assert ioas.unmap(iova, end - start) == end - start


@rule("pages.huge.transparent")
@pytest.mark.parametrize("start", SOME_EDGES, ids=hex)
def test_transparent_huge_pages(mock_device, ioas, process, start):
    mapped = process.checked("mmap", 0, 3 * HUGE_PAGE_SIZE, 3, 0x22, -1, 0)
    address = mapped + -mapped % HUGE_PAGE_SIZE
    process.checked("madvise", address, 2 * HUGE_PAGE_SIZE, 14)
    for end in (end for end in ENDS if end > start):
        iova = ioas.map(address + start, end - start)
        check_map(mock_device.hwpt, iova, address + start, end - start)
        assert ioas.unmap(iova, end - start) == end - start


@rule("pages.huge.off")
def test_huge_memory_without_huge_pages(mock_device, ioas, huge_buffer):
    ioas.huge_pages(0)
    iova = ioas.map(huge_buffer)
    check_map(mock_device.hwpt, iova, huge_buffer, huge_buffer.size)
    assert ioas.unmap_all() == huge_buffer.size


@rule("pages.huge.access")
def test_access_within_huge_memory_while_the_device_goes(mock_device, ioas, huge_buffer):
    iova = ioas.map(huge_buffer)
    access = ioas.create_access(pin=True)
    start = HUGE_PAGE_SIZE - 0x3000
    item = access.pin(iova + start, 0x5000, huge_buffer.address + start)
    mock_device.destroy()
    access.unpin(item)
    access.unpin(access.pin(iova, huge_buffer.size, huge_buffer))


@rule("pages.huge.second_device")
def test_huge_memory_for_a_second_device(mock_device, iommufd, ioas, huge_buffer):
    iova = ioas.map(huge_buffer)
    second = iommufd.hwpt_alloc(mock_device, ioas)
    check_map(second, iova, huge_buffer, huge_buffer.size)
    second.destroy()
    check_map(mock_device.hwpt, iova, huge_buffer, huge_buffer.size)
