# SPDX-License-Identifier: GPL-2.0-only
"""The queue's memory: what it must be, and that it stays."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule

HALF_PAGE = 2048
LAST = (1 << 64) - 1


@rule("hw_queue.memory.any_place")
def test_queue_anywhere_in_a_page(viommu, ioas, mapped, page_size):
    for offset, length in [(0, 1), (64, 128), (4095, 1), (1, 4095)]:
        viommu.hw_queue_alloc(mapped + offset, length).destroy()
    assert ioas.unmap(mapped, page_size) == page_size


@rule("hw_queue.memory.contiguous")
def test_queue_of_many_contiguous_pages(viommu, ioas, huge_buffer, base):
    half = huge_buffer.size // 2
    ioas.map(huge_buffer, half, iova=base)
    viommu.hw_queue_alloc(base + 100, half - 200).destroy()
    viommu.hw_queue_alloc(base, half)


@rule("hw_queue.memory.unmapped")
def test_queue_that_is_not_all_mapped(expected, viommu, mapped):
    for offset, length in [(0x10000, 1), (0, 4097), (4095, 2), (-1, 2)]:
        with expected:
            viommu.hw_queue_alloc(mapped + offset, length)
    viommu.destroy()


@rule("hw_queue.memory.unmapped.last_byte")
def test_queue_in_the_last_byte(expected, viommu):
    with expected:
        viommu.hw_queue_alloc(LAST, 1)


@rule("hw_queue.memory.unmapped.before_index")
def test_memory_is_looked_at_before_the_index(expected, viommu, base):
    with expected:
        viommu.hw_queue_alloc(base, 1, 9)


@rule("hw_queue.memory.unreadable")
def test_queue_in_memory_that_cannot_be_read(expected, viommu, ioas, buffer, uapi, page_size):
    flags = uapi.IOMMU_IOAS_MAP_WRITEABLE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA
    iova = ioas.map(buffer, page_size, iova=uapi.MOCK_APERTURE_START, flags=flags)
    with expected:
        viommu.hw_queue_alloc(iova, page_size)


@rule("hw_queue.memory.dmabuf")
def test_queue_in_a_dmabuf(expected, viommu, ioas, dmabuf, base, page_size):
    ioas.map_file(dmabuf(page_size), page_size, iova=base)
    with expected:
        viommu.hw_queue_alloc(base, page_size)
    assert ioas.unmap(base, page_size) == page_size
    viommu.destroy()


@rule("hw_queue.memory.readonly")
def test_queue_in_memory_that_can_only_be_read(viommu, ioas, buffer, uapi, page_size):
    flags = uapi.IOMMU_IOAS_MAP_READABLE | uapi.IOMMU_IOAS_MAP_FIXED_IOVA
    iova = ioas.map(buffer, page_size, iova=uapi.MOCK_APERTURE_START, flags=flags)
    viommu.hw_queue_alloc(iova, page_size).destroy()


@rule("hw_queue.memory.not_contiguous")
@pytest.mark.parametrize(("offset", "length"), [(0, 8192), (4095, 2)], ids=["whole", "across"])
def test_pages_that_are_not_contiguous(
    expected, viommu, ioas, huge_buffer, base, page_size, offset, length
):
    ioas.map(huge_buffer.address + page_size, page_size, iova=base)
    ioas.map(huge_buffer, page_size, iova=base + page_size)
    with expected:
        viommu.hw_queue_alloc(base + offset, length)
    assert ioas.unmap(base, 2 * page_size) == 2 * page_size
    viommu.destroy()


@rule("hw_queue.memory.two_areas")
def test_contiguous_pages_of_two_areas(viommu, ioas, huge_buffer, base, page_size):
    ioas.map(huge_buffer, page_size, iova=base)
    ioas.map(huge_buffer.address + page_size, page_size, iova=base + page_size)
    viommu.hw_queue_alloc(base, 2 * page_size).destroy()


@rule("hw_queue.memory.area_within_a_page")
def test_area_within_a_page(expected, viommu, ioas, buffer, mapped, page_size):
    other = mapped + 16 * page_size
    ioas.map(buffer, HALF_PAGE, iova=other)
    with expected:
        viommu.hw_queue_alloc(mapped, page_size)
    ioas.unmap(other, HALF_PAGE)
    viommu.hw_queue_alloc(mapped, page_size).destroy()


@rule("hw_queue.memory.later_area_within_a_page")
def test_later_area_within_a_page(expected, ioas, buffer, queue, mapped, page_size):
    other = mapped + 16 * page_size
    with expected:
        ioas.map(buffer, HALF_PAGE, iova=other)
    queue.destroy()
    ioas.map(buffer, HALF_PAGE, iova=other)


@rule("hw_queue.memory.shared")
def test_two_queues_in_the_same_memory(viommu, ioas, queue, mapped, page_size):
    second = viommu.hw_queue_alloc(mapped, page_size, 1)
    second.destroy()
    queue.destroy()
    assert ioas.unmap(mapped, page_size) == page_size


@rule("hw_queue.memory.pinned")
def test_memory_of_a_queue_cannot_be_unmapped(expected, ioas, queue, mapped, page_size):
    with expected:
        ioas.unmap(mapped, page_size)
    queue.destroy()
    assert ioas.unmap(mapped, page_size) == page_size


@rule("hw_queue.memory.pinned.all")
def test_ioas_with_a_queue_cannot_be_emptied(expected, ioas, queue, page_size):
    with expected:
        ioas.unmap(0, LAST)
    queue.destroy()
    assert ioas.unmap(0, LAST) == page_size


@rule("hw_queue.memory.pinned.by_each")
def test_memory_is_kept_by_each_queue(expected, viommu, ioas, queue, mapped, page_size):
    viommu.hw_queue_alloc(mapped + 64, 128, 1).destroy()
    with expected:
        ioas.unmap(mapped, page_size)
    queue.destroy()
    ioas.unmap(mapped, page_size)


@rule("hw_queue.memory.others_unmapped")
def test_other_memory_can_be_unmapped(ioas, buffer, queue, mapped, page_size):
    other = ioas.map(buffer, page_size, iova=mapped + page_size)
    assert ioas.unmap(other, page_size) == page_size
    queue.destroy()
