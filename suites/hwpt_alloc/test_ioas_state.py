# SPDX-License-Identifier: GPL-2.0-only
"""What an IOAS has already, and what a HWPT makes of it: areas, allowed ranges, the aperture."""

from __future__ import annotations

import mmap
from errno import EADDRINUSE, ENOENT

import pytest

from pytest_iommufd import raises_errno, rule

OUTSIDE = 0x1000
MOCK_PAGE = 2048


@rule("hwpt_alloc.ioas.area_outside_aperture")
@pytest.mark.parametrize("place", ["below", "above"])
def test_area_outside_the_aperture(
    expected, iommufd, mock_device, other_ioas, buffer, page_size, uapi, place
):
    iova = uapi.MOCK_APERTURE_LAST + 1
    if place == "below":
        iova = uapi.MOCK_APERTURE_START - page_size
    other_ioas.map(buffer, page_size, iova=iova)
    with expected:
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.area_at_the_edge")
@pytest.mark.parametrize("edge", ["first", "last"])
def test_area_at_the_edge_of_the_aperture(
    iommufd, mock_device, other_ioas, buffer, page_size, uapi, edge
):
    first, last = uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST + 1 - page_size
    other_ioas.map(buffer, page_size, iova=first if edge == "first" else last)
    iommufd.hwpt_alloc(mock_device, other_ioas).destroy()


@rule("hwpt_alloc.ioas.area_unmapped_again")
def test_area_outside_the_aperture_may_go(iommufd, mock_device, ioas_outside_aperture, page_size):
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture)
    ioas_outside_aperture.unmap(OUTSIDE, page_size)
    iommufd.hwpt_alloc(mock_device, ioas_outside_aperture).destroy()


@rule("hwpt_alloc.ioas.area_unaligned")
def test_area_within_a_page(expected, iommufd, mock_device, ioas_unaligned):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas_unaligned)


@rule("hwpt_alloc.ioas.area_aligned")
def test_area_of_a_mock_page(iommufd, mock_device, other_ioas, buffer, uapi):
    iova = uapi.MOCK_APERTURE_START + MOCK_PAGE
    other_ioas.map(buffer.address + MOCK_PAGE, MOCK_PAGE, iova=iova)
    made = iommufd.hwpt_alloc(mock_device, other_ioas)
    check = {"iova": iova, "length": MOCK_PAGE, "uptr": buffer.address + MOCK_PAGE}
    iommufd.test("md_check_map", made, check_map=check)


@rule("hwpt_alloc.ioas.allowed_outside_aperture")
def test_allowed_range_outside_the_aperture(expected, iommufd, mock_device, other_ioas):
    other_ioas.allow_iovas((OUTSIDE, OUTSIDE + 0xFFF))
    with expected:
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.allowed_inside_aperture")
def test_allowed_range_inside_the_aperture(iommufd, mock_device, other_ioas, uapi):
    other_ioas.allow_iovas((uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST))
    iommufd.hwpt_alloc(mock_device, other_ioas).destroy()


@rule("hwpt_alloc.ioas.area_unpinnable")
@pytest.mark.parametrize("protection", [0, mmap.PROT_READ], ids=["none", "read"])
def test_area_whose_memory_cannot_be_pinned(
    expected, iommufd, mock_device, other_ioas, buffers, page_size, uapi, protection
):
    memory = buffers(page_size)
    other_ioas.map(memory, iova=uapi.MOCK_APERTURE_START)
    memory.protect(protection)
    with expected:
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.area_unmapped_memory")
def test_area_whose_memory_is_gone(
    expected, iommufd, mock_device, other_ioas, buffers, page_size, uapi
):
    memory = buffers(page_size)
    other_ioas.map(memory, iova=uapi.MOCK_APERTURE_START)
    memory.unmap()
    with expected:
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.nested_ignores_areas")
def test_nested_hwpt_needs_nothing_of_the_areas(
    iommufd, mock_device, other_ioas, buffers, page_size, hwpt_type, parent_flags
):
    parent = iommufd.hwpt_alloc(mock_device, other_ioas, flags=parent_flags)
    memory = buffers(page_size)
    other_ioas.map(memory)
    memory.protect(0)
    iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid(iotlb=3)).check_iotlb(0, 3)


@rule("hwpt_alloc.ioas.aperture_binds")
@pytest.mark.parametrize("kind", ["plain", "parent"])
def test_aperture_binds_later_maps(
    expected, iommufd, mock_device, other_ioas, buffer, parent_flags, kind
):
    flags = parent_flags if kind == "parent" else 0
    made = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    with expected:
        other_ioas.map(buffer, iova=OUTSIDE)
    made.destroy()
    other_ioas.map(buffer, iova=OUTSIDE)


@rule("hwpt_alloc.ioas.area_before_fault_id")
def test_area_is_looked_at_before_the_queue(
    expected, iommufd, mock_device, ioas_outside_aperture, uapi
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, flags=flags)


@rule("hwpt_alloc.ioas.huge_page_table")
@pytest.mark.parametrize("flags", range(4), ids=["plain", "nest_parent", "dirty", "both"])
def test_huge_page_table_has_another_aperture(
    iommufd, mock_device, ioas_outside_aperture, hwpt_type, uapi, flags
):
    data = hwpt_type.valid(pagetable_type=uapi.MOCK_IOMMUPT_HUGE)
    made = iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, data, flags=flags)
    made.destroy()
    with raises_errno(ENOENT):
        made.destroy()
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, hwpt_type.valid(pagetable_type=0))
