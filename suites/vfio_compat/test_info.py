# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_IOMMU_GET_INFO and its chain of capabilities."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.request import Request

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.vfio import VfioContainer

MINIMUM = 16
STRUCT = 24
DMA_AVAIL_SIZE = 16
HEADER = 16
RANGE = 16
WHOLE = STRUCT + DMA_AVAIL_SIZE + HEADER + RANGE
FILLER = b"\xaa"
ROOM = 256


def info_bytes(container: VfioContainer, argsz: int) -> bytes:
    """Ask for argsz bytes, and return what is in memory that held other bytes before."""
    __tracebackhide__ = True
    content = argsz.to_bytes(4, "little") + FILLER * (ROOM - 4)
    request = Request("VFIO_IOMMU_GET_INFO", content=content)
    return container.send(request).after


def number(content: bytes, offset: int, size: int = 4) -> int:
    """Return a field."""
    return int.from_bytes(content[offset : offset + size], "little")


def chain(content: bytes) -> dict[int, tuple[int, int]]:
    """Return offset and version of each capability by its id."""
    found = {}
    offset = number(content, MINIMUM)
    while offset:
        assert offset < number(content, 0)
        found[number(content, offset, 2)] = (offset, number(content, offset + 2, 2))
        offset = number(content, offset + 4)
    return found


def ranges(content: bytes, offset: int) -> list[tuple[int, int]]:
    """Return the ranges of the capability at an offset."""
    count = number(content, offset + 8)
    first = offset + HEADER
    places = range(first, first + RANGE * count, RANGE)
    return [(number(content, at, 8), number(content, at + 8, 8)) for at in places]


@rule("vfio_compat.info.argsz")
def test_argsz_below_the_least(expected, container):
    for argsz in (0, 1, 8, MINIMUM - 1):
        with expected:
            container.get_info(argsz=argsz)


@rule("vfio_compat.info.argsz_first")
def test_argsz_is_told_first(expected, vfio):
    with expected:
        vfio.get_info(argsz=1)


@rule("vfio_compat.info.without_ioas")
def test_info_without_ioas(expected, vfio):
    with expected:
        vfio.get_info()


@rule("vfio_compat.info.pointer")
def test_info_at_a_bad_pointer(expected, vfio, unmapped, page_before_hole):
    for pointer in (0, unmapped, page_before_hole.address + page_before_hole.size - 8):
        with expected:
            vfio.ioctl_pointer("VFIO_IOMMU_GET_INFO", pointer)


@rule("vfio_compat.info.flags")
def test_flags_are_only_an_answer(expected, container):
    uapi = container.uapi
    with expected:
        made = container.get_info(flags=0xFFFF_FFFF)
    assert made.flags == uapi.VFIO_IOMMU_INFO_PGSIZES | uapi.VFIO_IOMMU_INFO_CAPS


@rule("vfio_compat.info.page_sizes")
def test_page_sizes_without_device(container, page_size):
    assert container.get_info().iova_pgsizes == 2**64 - page_size


@rule("vfio_compat.info.page_sizes_of_device")
def test_page_sizes_of_a_device(with_device, page_size):
    sizes = with_device.get_info().iova_pgsizes
    assert sizes & -sizes == page_size
    assert sizes != 2**64 - page_size


@rule("vfio_compat.info.needed")
def test_argsz_that_is_needed(with_device):
    for argsz in range(MINIMUM, WHOLE + 9):
        assert number(info_bytes(with_device, argsz), 0) == WHOLE


@rule("vfio_compat.info.cap_offset")
def test_chain_only_as_a_whole(with_device):
    for argsz in range(STRUCT, WHOLE + 9):
        offset = number(info_bytes(with_device, argsz), MINIMUM)
        assert offset == (STRUCT if argsz >= WHOLE else 0)


@rule("vfio_compat.info.within_argsz")
def test_nothing_behind_argsz_is_written(with_device):
    for argsz in range(MINIMUM, WHOLE + 9):
        rest = info_bytes(with_device, argsz)[argsz:]
        assert rest == FILLER * len(rest)


@rule("vfio_compat.info.capabilities")
def test_capabilities(iommufd, with_device):
    uapi = iommufd.uapi
    found = chain(info_bytes(with_device, WHOLE))
    assert found == {
        uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL: (STRUCT, 1),
        uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: (STRUCT + DMA_AVAIL_SIZE, 1),
    }


@rule("vfio_compat.info.dma_avail")
def test_dma_avail(iommufd, container):
    content = info_bytes(container, ROOM)
    offset, _ = chain(content)[iommufd.uapi.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL]
    assert number(content, offset + 8) == 0xFFFF_FFFF


@rule("vfio_compat.info.ranges")
def test_range_without_device(iommufd, container):
    content = info_bytes(container, ROOM)
    offset, _ = chain(content)[iommufd.uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE]
    assert ranges(content, offset) == [(0, 2**64 - 1)]


@rule("vfio_compat.info.ranges_of_device")
def test_ranges_around_a_reserved_one(iommufd, with_device, ioas, start, page_size):
    fields = {"start": start + page_size, "length": page_size}
    iommufd.test("add_reserved", ioas, add_reserved=fields)
    content = info_bytes(with_device, ROOM)
    offset, _ = chain(content)[iommufd.uapi.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE]
    last = iommufd.uapi.MOCK_APERTURE_LAST
    first, second = (start, start + page_size - 1), (start + 2 * page_size, last)
    assert ranges(content, offset) == [first, second]
    assert number(content, 0) == WHOLE + RANGE


@rule("vfio_compat.info.unwritable")
def test_info_cannot_be_written(expected, with_device, page_before_hole):
    page_before_hole.write(MINIMUM.to_bytes(4, "little"))
    page_before_hole.protect(mmap.PROT_READ, size=page_before_hole.size)
    with expected:
        with_device.ioctl_pointer("VFIO_IOMMU_GET_INFO", page_before_hole.address)


@rule("vfio_compat.info.unwritable_capability")
@pytest.mark.parametrize("room", [STRUCT, STRUCT + DMA_AVAIL_SIZE, WHOLE - RANGE])
def test_capability_cannot_be_written(expected, with_device, page_before_hole, room):
    page = page_before_hole
    where = page.write(WHOLE.to_bytes(4, "little") + bytes(room - 4), page.size - room)
    with expected:
        with_device.ioctl_pointer("VFIO_IOMMU_GET_INFO", where)
