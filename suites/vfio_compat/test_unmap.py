# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_IOMMU_UNMAP_DMA."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from pytest_iommufd.rules.expectation import Expectation

MINIMUM = 24
MAX = 2**64 - 1
GET_DIRTY_BITMAP, ALL = 1, 2
NEEDS_PINS = 1


def size_after(expected: Expectation) -> int:
    """Return the struct's size as a failed call left it."""
    assert expected.error
    assert expected.error.struct
    return int(expected.error.struct["size"])


@rule("vfio_compat.unmap.accepted")
@pytest.mark.parametrize("kind", ["type1", "type1v2"])
def test_unmap(expected, start, buffer, kind, request):
    container = request.getfixturevalue(kind)
    for place in (0, 1, 2):
        container.map_dma(start + place * buffer.size, buffer, buffer.size)
    with expected:
        assert container.unmap_dma(start, 2 * buffer.size) == 2 * buffer.size
    assert container.unmap_all() == buffer.size


@rule("vfio_compat.unmap.argsz")
def test_argsz_below_the_least(expected, container):
    for argsz in (0, 1, MINIMUM - 1):
        with expected:
            container.unmap_dma(0, 4096, argsz=argsz)


@rule("vfio_compat.unmap.unknown_flag")
def test_unknown_flag(expected, container, start, buffer):
    container.map_dma(start, buffer, buffer.size)
    for bit in range(2, 32):
        with expected:
            container.unmap_dma(start, buffer.size, flags=1 << bit)
    assert container.unmap_all() == buffer.size


@rule("vfio_compat.unmap.dirty_bitmap")
def test_dirty_bitmap(expected, container, start, buffer):
    container.map_dma(start, buffer, buffer.size)
    for flags in [GET_DIRTY_BITMAP, GET_DIRTY_BITMAP | ALL]:
        with expected:
            container.unmap_dma(start, buffer.size, flags=flags)


@rule("vfio_compat.unmap.checked_first")
def test_argsz_and_flags_are_told_first(expected, vfio):
    for wrong in ({"argsz": 1}, {"flags": 1 << 31}):
        with expected:
            vfio.unmap_dma(0, 4096, **wrong)


@rule("vfio_compat.unmap.without_ioas")
def test_unmap_without_ioas(expected, vfio):
    for flags, size in ((0, 4096), (ALL, 0), (ALL, 4096)):
        with expected:
            vfio.unmap_dma(0, size, flags=flags)


@rule("vfio_compat.unmap.pointer")
def test_unmap_at_a_bad_pointer(expected, vfio, unmapped, page_before_hole):
    for pointer in (0, unmapped, page_before_hole.address + page_before_hole.size - 16):
        with expected:
            vfio.ioctl_pointer("VFIO_IOMMU_UNMAP_DMA", pointer)


@rule("vfio_compat.unmap.empty")
def test_unmap_of_nothing_mapped(expected, with_device, start, page_size):
    with expected:
        assert with_device.unmap_dma(start, page_size) == 0
    with expected:
        assert with_device.unmap_all() == 0


@rule("vfio_compat.unmap.length_zero")
def test_unmap_of_no_length(expected, container, start, buffer):
    container.map_dma(start, buffer, buffer.size)
    with expected:
        container.unmap_dma(start, 0)


@rule("vfio_compat.unmap.overflow")
def test_unmap_too_far(expected, container, page_size):
    with expected:
        container.unmap_dma(MAX - page_size + 1, 2 * page_size)
    assert size_after(expected) == 0


@rule("vfio_compat.unmap.all")
def test_unmap_all(expected, with_device, start, buffer):
    for place in (0, 3):
        with_device.map_dma(start + place * buffer.size, buffer, buffer.size)
    with expected:
        assert with_device.unmap_all() == 2 * buffer.size
    assert with_device.unmap_all() == 0


@rule("vfio_compat.unmap.all_operands")
def test_unmap_all_with_operands(expected, container, start, buffer):
    container.map_dma(start, buffer, buffer.size)
    for iova, size in [(1, 0), (0, 1), (4096, 4096), (1 << 63, 0)]:
        with expected:
            container.unmap_dma(iova, size, flags=ALL)
        assert size_after(expected) == size
    assert container.unmap_all() == buffer.size


@rule("vfio_compat.unmap.unwritable")
@pytest.mark.parametrize("flags", [0, ALL])
def test_unmap_struct_cannot_be_written(
    expected, iommufd, with_device, start, buffer, page_before_hole, flags
):
    with_device.map_dma(start, buffer, buffer.size)
    iova, size = (0, 0) if flags else (start, buffer.size)
    struct = iommufd.uapi.struct(
        "vfio_iommu_type1_dma_unmap", argsz=MINIMUM, flags=flags, iova=iova, size=size
    )
    page_before_hole.write(bytes(struct))
    page_before_hole.protect(mmap.PROT_READ, size=page_before_hole.size)
    with expected:
        with_device.ioctl_pointer("VFIO_IOMMU_UNMAP_DMA", page_before_hole.address)
    assert with_device.unmap_all() == 0


@rule("vfio_compat.unmap.native_mapping")
def test_unmap_of_what_iommufd_mapped(expected, container, ioas, start, buffer):
    ioas.map(buffer, iova=start)
    with expected:
        assert container.unmap_dma(start, buffer.size) == buffer.size


@rule("vfio_compat.unmap.hw_queue")
def test_unmap_of_the_memory_of_a_queue(expected, viommu, container, start, buffer, page_size):
    container.map_dma(start, buffer, buffer.size)
    queue = viommu.hw_queue_alloc(start, page_size)
    for size, flags in ((buffer.size, 0), (0, ALL)):
        with expected:
            container.unmap_dma(0 if flags else start, size, flags=flags)
        assert size_after(expected) == 0
    queue.destroy()
    assert container.unmap_all() == buffer.size


@rule("vfio_compat.unmap.during_map")
@pytest.mark.usefixtures("with_device")
def test_unmap_of_what_is_being_mapped(expected, while_mapping, start, page_size):
    expected.check(while_mapping(start, "VFIO_IOMMU_UNMAP_DMA", iova=start, size=page_size))


# ---- parts of a mapping ----


@rule("vfio_compat.unmap.split_type1v2")
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_part_of_a_mapping_of_type1v2(expected, type1v2, start, buffer, page_size, where):
    type1v2.map_dma(start, buffer, buffer.size)
    offset = {"first": 0, "middle": 4 * page_size, "last": buffer.size - page_size}[where]
    with expected:
        type1v2.unmap_dma(start + offset, page_size)
    assert size_after(expected) == 0
    assert type1v2.unmap_all() == buffer.size


@rule("vfio_compat.unmap.split_type1")
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_part_of_a_mapping_of_type1(expected, type1, start, buffer, page_size, where):
    type1.map_dma(start, buffer, buffer.size)
    offset = {"first": 0, "middle": 4 * page_size, "last": buffer.size - page_size}[where]
    with expected:
        assert type1.unmap_dma(start + offset, page_size) == page_size
    assert type1.unmap_all() == buffer.size - page_size


@rule("vfio_compat.unmap.split_at_zero")
def test_part_of_a_mapping_at_zero(expected, container, buffer, page_size):
    container.set_iommu(container.uapi.VFIO_TYPE1_IOMMU)
    container.map_dma(0, buffer, buffer.size)
    with expected:
        assert container.unmap_dma(0, page_size) == page_size
    assert container.unmap_all() == buffer.size - page_size


@rule("vfio_compat.unmap.split_huge")
def test_parts_of_huge_pages(expected, type1, start, huge_buffer):
    type1.map_dma(start, huge_buffer, huge_buffer.size)
    part = huge_buffer.size // 16
    for place in (3, 0, 15, 8, *(set(range(16)) - {0, 3, 8, 15})):
        with expected:
            assert type1.unmap_dma(start + place * part, part) == part


@rule("vfio_compat.unmap.split_huge_type1v2")
def test_parts_of_huge_pages_of_type1v2(expected, type1v2, start, huge_buffer):
    type1v2.map_dma(start, huge_buffer, huge_buffer.size)
    part = huge_buffer.size // 16
    for place in range(16):
        with expected:
            type1v2.unmap_dma(start + place * part, part)
    assert type1v2.unmap_all() == huge_buffer.size


@rule("vfio_compat.unmap.split_misaligned")
def test_split_within_a_page(expected, type1, start, buffer, page_size):
    type1.map_dma(start, buffer, buffer.size)
    for iova, size in ((start + 512, page_size), (start, page_size + 512)):
        with expected:
            type1.unmap_dma(iova, size)
    assert type1.unmap_all() == buffer.size


@rule("vfio_compat.unmap.split_pinned")
def test_split_of_what_an_access_pins(expected, iommufd, type1, ioas, start, buffer, page_size):
    type1.map_dma(start, buffer, buffer.size)
    access = iommufd.test("create_access", ioas, create_access={"flags": NEEDS_PINS})
    fd = access.create_access.out_access_fd
    iommufd.test("access_pages", fd, access_pages={"iova": start, "length": page_size})
    with expected:
        type1.unmap_dma(start, page_size)
    assert type1.unmap_all() == buffer.size


@rule("vfio_compat.unmap.split_dmabuf")
def test_split_of_a_dmabuf(expected, type1, ioas, dmabuf, start, page_size):
    ioas.map_file(dmabuf(4 * page_size), 4 * page_size, iova=start)
    for place in (0, 2):
        with expected:
            type1.unmap_dma(start + place * page_size, page_size)
    assert type1.unmap_all() == 4 * page_size


@rule("vfio_compat.unmap.split_during_map")
@pytest.mark.usefixtures("type1")
def test_split_of_what_is_being_mapped(expected, while_mapping, start, page_size):
    expected.check(while_mapping(start, "VFIO_IOMMU_UNMAP_DMA", iova=start, size=page_size // 2))
