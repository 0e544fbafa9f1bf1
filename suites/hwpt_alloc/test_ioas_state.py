# SPDX-License-Identifier: GPL-2.0-only
"""What an IOAS has already, and what a HWPT makes of it: areas, allowed ranges, the aperture."""

from __future__ import annotations

import mmap
from errno import EADDRINUSE, EFAULT, EINVAL, ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import absent, raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, HwptType, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

OUTSIDE = 0x1000
MOCK_PAGE = 2048


@pytest.fixture
def huge_page_table(uapi: Uapi) -> int:
    """MOCK_IOMMUPT_HUGE, a page table without the mock aperture; absent where there is none."""
    if not uapi.has("MOCK_IOMMUPT_HUGE"):
        absent("iommufd_test.h has no MOCK_IOMMUPT_HUGE: every mock HWPT has the mock aperture")
    return uapi.MOCK_IOMMUPT_HUGE


@rule("hwpt_alloc.ioas.area_outside_aperture")
@pytest.mark.parametrize("place", ["below", "above"])
def test_area_outside_the_aperture(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffer: Buffer,
    page_size: int,
    uapi: Uapi,
    place: str,
) -> None:
    """An area that the HWPT's aperture does not cover: EADDRINUSE (iopt_reserve_iova)."""
    iova = uapi.MOCK_APERTURE_LAST + 1
    if place == "below":
        iova = uapi.MOCK_APERTURE_START - page_size
    other_ioas.map(buffer, page_size, iova=iova)
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.area_at_the_edge")
@pytest.mark.parametrize("edge", ["first", "last"])
def test_area_at_the_edge_of_the_aperture(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffer: Buffer,
    page_size: int,
    uapi: Uapi,
    edge: str,
) -> None:
    """An area at either end of the aperture is covered (iopt_table_add_domain)."""
    first, last = uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST + 1 - page_size
    other_ioas.map(buffer, page_size, iova=first if edge == "first" else last)
    iommufd.hwpt_alloc(mock_device, other_ioas).destroy()


@rule("hwpt_alloc.ioas.area_unmapped_again")
def test_area_outside_the_aperture_may_go(
    iommufd: Context, mock_device: MockDevice, ioas_outside_aperture: Ioas, page_size: int
) -> None:
    """Once the area is unmapped the IOAS is as good as any (iopt_table_add_domain)."""
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture)
    ioas_outside_aperture.unmap(OUTSIDE, page_size)
    iommufd.hwpt_alloc(mock_device, ioas_outside_aperture).destroy()


@rule("hwpt_alloc.ioas.area_unaligned")
def test_area_within_a_page(
    iommufd: Context, mock_device: MockDevice, ioas_unaligned: Ioas
) -> None:
    """An area finer than the HWPT's pages: EADDRINUSE (iopt_check_iova_alignment)."""
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, ioas_unaligned)


@rule("hwpt_alloc.ioas.area_aligned")
def test_area_of_a_mock_page(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, buffer: Buffer, uapi: Uapi
) -> None:
    """An area of the HWPT's page size is fine, smaller than memory's (mock page of 2048 bytes)."""
    iova = uapi.MOCK_APERTURE_START + MOCK_PAGE
    other_ioas.map(buffer.address + MOCK_PAGE, MOCK_PAGE, iova=iova)
    made = iommufd.hwpt_alloc(mock_device, other_ioas)
    check = {"iova": iova, "length": MOCK_PAGE, "uptr": buffer.address + MOCK_PAGE}
    iommufd.test("md_check_map", made, check_map=check)


@rule("hwpt_alloc.ioas.allowed_outside_aperture")
def test_allowed_range_outside_the_aperture(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas
) -> None:
    """A range allowed outside the aperture: EADDRINUSE (iopt_reserve_iova)."""
    other_ioas.allow_iovas((OUTSIDE, OUTSIDE + 0xFFF))
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.allowed_inside_aperture")
def test_allowed_range_inside_the_aperture(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, uapi: Uapi
) -> None:
    """A range allowed within the aperture is fine (iopt_reserve_iova)."""
    other_ioas.allow_iovas((uapi.MOCK_APERTURE_START, uapi.MOCK_APERTURE_LAST))
    iommufd.hwpt_alloc(mock_device, other_ioas).destroy()


@rule("hwpt_alloc.ioas.area_unpinnable")
@pytest.mark.parametrize("protection", [0, mmap.PROT_READ], ids=["none", "read"])
def test_area_whose_memory_cannot_be_pinned(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffers: Callable[..., Buffer],
    page_size: int,
    uapi: Uapi,
    protection: int,
) -> None:
    """An area whose memory is not accessible any more: EFAULT (iopt_fill_domain)."""
    memory = buffers(page_size)
    other_ioas.map(memory, iova=uapi.MOCK_APERTURE_START)
    memory.protect(protection)
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.area_unmapped_memory")
def test_area_whose_memory_is_gone(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffers: Callable[..., Buffer],
    page_size: int,
    uapi: Uapi,
) -> None:
    """An area whose memory was unmapped: EFAULT (iopt_fill_domain)."""
    memory = buffers(page_size)
    other_ioas.map(memory, iova=uapi.MOCK_APERTURE_START)
    memory.unmap()
    with raises_errno(EFAULT):
        iommufd.hwpt_alloc(mock_device, other_ioas)


@rule("hwpt_alloc.ioas.nested_ignores_areas")
def test_nested_hwpt_needs_nothing_of_the_areas(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffers: Callable[..., Buffer],
    page_size: int,
    hwpt_type: HwptType,
    uapi: Uapi,
) -> None:
    """A nested HWPT pins nothing: memory that is gone does not matter (iommufd_hwpt_alloc)."""
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    parent = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    memory = buffers(page_size)
    other_ioas.map(memory)
    memory.protect(0)
    iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid(iotlb=3)).check_iotlb(0, 3)


@rule("hwpt_alloc.ioas.aperture_binds")
@pytest.mark.parametrize("flags", [0, 1], ids=["plain", "nest_parent"])
def test_aperture_binds_later_maps(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, buffer: Buffer, flags: int
) -> None:
    """While the HWPT lives its aperture binds IOMMU_IOAS_MAP: EINVAL outside (iopt_check_iova)."""
    made = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    with raises_errno(EINVAL):
        other_ioas.map(buffer, iova=OUTSIDE)
    made.destroy()
    other_ioas.map(buffer, iova=OUTSIDE)


@rule("hwpt_alloc.ioas.area_before_fault_id")
def test_area_is_looked_at_before_the_queue(
    iommufd: Context,
    mock_device: MockDevice,
    ioas_outside_aperture: Ioas,
    uapi: Uapi,
    *,
    paging_takes_fault_id: bool,
) -> None:
    """An area outside and a wrong fault_id: the area wins; the flag, where it is refused."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with raises_errno(EADDRINUSE if paging_takes_fault_id else EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, flags=flags, fault_id=9999)


@rule("hwpt_alloc.ioas.huge_page_table")
@pytest.mark.parametrize("flags", range(4), ids=["plain", "nest_parent", "dirty", "both"])
def test_huge_page_table_has_another_aperture(
    iommufd: Context,
    mock_device: MockDevice,
    ioas_outside_aperture: Ioas,
    hwpt_type: HwptType,
    huge_page_table: int,
    flags: int,
) -> None:
    """A driver's data may change the aperture: then an area may be elsewhere (mock driver)."""
    data = hwpt_type.valid(pagetable_type=huge_page_table)
    made = iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, data, flags=flags)
    made.destroy()
    with raises_errno(ENOENT):
        made.destroy()
    with raises_errno(EADDRINUSE):
        iommufd.hwpt_alloc(mock_device, ioas_outside_aperture, hwpt_type.valid(pagetable_type=0))
