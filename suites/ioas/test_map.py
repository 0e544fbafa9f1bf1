# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_MAP: what is refused, where it maps, and what stays."""

from __future__ import annotations

import mmap
from errno import EFAULT, EINVAL, ENOENT, ENOSPC
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map
from pytest_iommufd.iommufd.ioas import AUTOMATIC_RW, FIXED_RW
from pytest_iommufd.iommufd.memory import HUGE_PAGE_SIZE
from pytest_iommufd.uapi.spare import spare_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer

PAGE = 0x1000
LAST = (1 << 64) - 1
MOCK_PAGE = 2048


@pytest.fixture
def aligned(buffers: Callable[..., Buffer]) -> int:
    """An address that is a multiple of a huge page, with memory up to another huge page."""
    address = buffers(2 * HUGE_PAGE_SIZE).address
    return address + -address % HUGE_PAGE_SIZE


# ---- fields ----


@rule("ioas.map.flags")
@pytest.mark.parametrize("which", [0, -1], ids=["lowest", "highest"])
def test_unknown_flag(expected, ioas, buffer, uapi, which):
    flag = spare_flags(uapi, "iommu_ioas_map.flags")[which]
    with expected:
        ioas.map(buffer, flags=6 | flag)


@rule("ioas.map.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_reserved_field(expected, ioas, buffer, bit):
    with expected:
        ioas.map(buffer, __reserved=1 << bit)


@rule("ioas.map.last_iova")
def test_iova_is_the_last_byte(expected, ioas, buffer):
    with expected:
        ioas.map(buffer, 1, iova=LAST)


@rule("ioas.map.last_iova.automatic")
def test_automatic_iova_is_the_last_byte(expected, ioas, buffer):
    with expected:
        ioas.map(buffer, iova=LAST, flags=AUTOMATIC_RW)


@rule("ioas.map.length_all")
def test_length_is_the_largest(expected, ioas):
    with expected:
        ioas.map(0, LAST)


@rule("ioas.map.protection")
@pytest.mark.parametrize("flags", [0, 1], ids=["automatic", "fixed"])
def test_neither_readable_nor_writeable(expected, ioas, buffer, flags):
    with expected:
        ioas.map(buffer, flags=flags)


@rule("ioas.map.one_protection")
@pytest.mark.parametrize("flags", [2, 5])
def test_readable_or_writeable(ioas, buffer, base, flags):
    ioas.map(buffer, iova=base, flags=flags)


@rule("ioas.map.ioas_id")
def test_unknown_ioas(expected, ioas, buffer, unknown_id):
    with expected:
        ioas.map(buffer, ioas_id=unknown_id)


@rule("ioas.map.ioas_id.other_type")
def test_ioas_of_another_type(expected, ioas, buffer, auto_hwpt):
    with expected:
        ioas.map(buffer, ioas_id=auto_hwpt)


@rule("ioas.map.length_zero")
@pytest.mark.parametrize("iova", [None, PAGE])
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
def test_nothing_to_map(expected, request, ioas, buffer, iova, device):
    if device:
        request.getfixturevalue("mock_device")
    with expected:
        ioas.map(buffer, 0, iova=iova)


@rule("ioas.map.length_huge")
@pytest.mark.parametrize("length", [LAST - 1, LAST - 4095])
def test_length_cannot_be_rounded_to_pages(expected, ioas, length):
    with expected:
        ioas.map(0, length)


@rule("ioas.map.length_huge_and_va")
@pytest.mark.parametrize("length", [LAST - 1, LAST - 4095])
def test_length_cannot_be_rounded_and_va_wraps(expected, ioas, buffer, length):
    with expected:
        ioas.map(buffer, length)


@rule("ioas.map.va_wraps")
@pytest.mark.parametrize(("va", "length"), [(LAST, 1), (LAST - 0xFFF, PAGE), (1 << 63, 1 << 63)])
def test_memory_ends_at_the_last_address(expected, ioas, va, length):
    with expected:
        ioas.map(va, length, iova=0)


@rule("ioas.map.va_wraps.beyond")
@pytest.mark.parametrize("va", [LAST, LAST - 0xFFF, 1 << 63], ids=hex)
@pytest.mark.parametrize("beyond", [1, PAGE])
def test_memory_wraps(expected, ioas, va, beyond):
    with expected:
        ioas.map(va, LAST - va + 1 + beyond, iova=0)


@rule("ioas.map.iova_wraps")
@pytest.mark.parametrize("iova", [LAST - 1, LAST - 0xFFE])
def test_fixed_iova_wraps(expected, ioas, buffer, page_size, iova):
    with expected:
        ioas.map(buffer, page_size, iova=iova)


@rule("ioas.map.iova_wraps_first")
@pytest.mark.parametrize("use", ["reserved", "mapped"])
def test_that_it_wraps_is_told_first(expected, ioas, use):
    half = 1 << 63
    if use == "reserved":
        ioas.add_reserved(0, half)
    else:
        ioas.map(0, half, iova=0)
    with expected:
        ioas.map(0, half + PAGE, iova=half - PAGE + 1)


@rule("ioas.map.iova_to_the_end")
def test_last_byte_can_be_mapped(ioas, buffer, page_size):
    assert ioas.map(buffer, page_size, iova=LAST - page_size + 1) == LAST - page_size + 1


# ---- where ----


@rule("ioas.map.iova_ignored")
def test_iova_without_its_flag(ioas, buffer):
    ioas.map(buffer, iova=0x7000_0000)
    assert ioas.map(buffer, iova=0x7000_0000, flags=6) != 0x7000_0000


@rule("ioas.map.occupied")
@pytest.mark.parametrize(("first", "pages"), [(2, 2), (1, 2), (3, 2), (1, 4)], ids=str)
def test_fixed_iova_meets_an_area(expected, ioas, buffer, page_size, first, pages):
    ioas.map(buffer, 2 * page_size, iova=2 * page_size)
    with expected:
        ioas.map(buffer, pages * page_size, iova=first * page_size)
    assert ioas.unmap_all() == 2 * page_size


@rule("ioas.map.occupied_with_device")
@pytest.mark.parametrize("offset", [-MOCK_PAGE, MOCK_PAGE])
def test_fixed_iova_meets_a_pinned_area(
    expected, mock_device, ioas, buffer, page_size, base, offset
):
    iova = ioas.map(buffer, 2 * page_size, iova=base + page_size)
    with expected:
        ioas.map(buffer, page_size, iova=iova + offset)
    check_map(mock_device.hwpt, iova, buffer, 2 * page_size)


@rule("ioas.map.adjacent")
def test_areas_may_touch(ioas, buffer, page_size):
    for number in (3, 1, 2):
        ioas.map(buffer, page_size, iova=number * page_size)
    assert ioas.unmap(page_size, 3 * page_size) == 3 * page_size


@rule("ioas.map.reserved_iova")
@pytest.mark.parametrize("first", [0xFFF, PAGE, 0x1FFF])
def test_fixed_iova_meets_reserved_iova(expected, ioas, buffer, first):
    ioas.add_reserved(PAGE, PAGE)
    with expected:
        ioas.map(buffer, PAGE, iova=first)


@rule("ioas.map.beside_reserved_iova")
def test_fixed_iova_beside_reserved_iova(ioas, buffer):
    ioas.add_reserved(PAGE, PAGE)
    ioas.map(buffer, PAGE, iova=0)
    ioas.map(buffer, PAGE, iova=2 * PAGE)


@rule("ioas.map.reserved_and_occupied")
def test_fixed_iova_meets_both(expected, ioas, buffer):
    ioas.map(buffer, PAGE, iova=0)
    ioas.add_reserved(PAGE, PAGE)
    with expected:
        ioas.map(buffer, 2 * PAGE, iova=0)


@rule("ioas.map.aperture")
@pytest.mark.parametrize("place", ["across_first", "across_last"])
def test_fixed_iova_outside_the_aperture(
    expected, mock_device, ioas, buffer, page_size, aperture, place
):
    assert mock_device.id
    edge = {"across_first": aperture[0], "across_last": aperture[1] + 1}[place]
    with expected:
        ioas.map(buffer, page_size, iova=edge - MOCK_PAGE)


@rule("ioas.map.aperture_edges")
def test_fixed_iova_at_the_edges_of_the_aperture(mock_device, ioas, buffer, page_size, aperture):
    for iova in (aperture[0], aperture[1] + 1 - page_size):
        ioas.map(buffer, page_size, iova=iova)
        check_map(mock_device.hwpt, iova, buffer, page_size)


@rule("ioas.map.unaligned")
@pytest.mark.parametrize("by", [1, 1024])
@pytest.mark.parametrize("what", ["iova", "length", "memory"])
def test_unaligned_with_a_device(expected, mock_device, ioas, buffer, page_size, base, what, by):
    assert mock_device.id
    given = {"iova": base, "length": page_size, "user_va": buffer.address}
    given["user_va" if what == "memory" else what] += by
    with expected:
        ioas.map(buffer, flags=FIXED_RW, **given)


@rule("ioas.map.unaligned_automatic")
@pytest.mark.parametrize("by", [1, 1024])
@pytest.mark.parametrize("what", ["length", "memory"])
def test_unaligned_and_automatic_with_a_device(
    expected, mock_device, ioas, buffer, page_size, what, by
):
    assert mock_device.id
    with expected:
        ioas.map(buffer.address + by * (what == "memory"), page_size + by * (what == "length"))


@rule("ioas.map.mock_page")
def test_alignment_is_the_mock_page(mock_device, ioas, buffer, base):
    at = buffer.address + MOCK_PAGE
    ioas.map(at, 3 * MOCK_PAGE, iova=base + MOCK_PAGE)
    check_map(mock_device.hwpt, base + MOCK_PAGE, at, 3 * MOCK_PAGE)


@rule("ioas.map.lazy")
@pytest.mark.parametrize("va", [0, 0xFFFF_8000_0000_0000], ids=hex)
def test_without_a_device_memory_is_not_touched(ioas, va):
    ioas.map(va, PAGE, iova=PAGE)
    ioas.map(va, PAGE)


@rule("ioas.map.bytes")
def test_without_a_device_single_bytes_can_be_mapped(ioas, buffer):
    assert ioas.map(buffer.address + 3, 1, iova=5) == 5
    assert ioas.map(buffer.address + 3, 77) % PAGE == 3
    assert ioas.unmap(5, 1) == 1


@rule("ioas.map.unpinnable")
@pytest.mark.parametrize("va", [0, 1 << 47, 0xFFFF_8000_0000_0000], ids=hex)
def test_with_a_device_memory_must_be_there(expected, mock_device, ioas, base, va):
    assert mock_device.id
    with expected:
        ioas.map(va, PAGE, iova=base)
    assert ioas.unmap_all() == 0


@rule("ioas.map.protected")
@pytest.mark.parametrize(
    ("protection", "flags"),
    [(0, 2), (0, 4), (mmap.PROT_READ, 2), (mmap.PROT_READ, 6)],
    ids=["none-write", "none-read", "read-write", "read-both"],
)
def test_with_a_device_memory_must_allow_it(expected, mock_device, ioas, buffer, protection, flags):
    assert mock_device.id
    buffer.protect(protection)
    with expected:
        ioas.map(buffer, flags=flags)
    assert ioas.unmap_all() == 0


@rule("ioas.map.readonly_memory")
def test_readonly_memory_can_be_mapped_readable(mock_device, ioas, buffer):
    buffer.protect(mmap.PROT_READ)
    iova = ioas.map(buffer, flags=4)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)


# ---- automatic IOVAs ----


@rule("ioas.map.automatic_apart")
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
def test_automatic_iovas_are_apart(request, ioas, buffer, page_size, device):
    if device:
        request.getfixturevalue("mock_device")
    taken = [(ioas.map(buffer, n * page_size), n * page_size) for n in range(1, 11)]
    assert all(iova >= page_size for iova, _ in taken)
    assert all(ioas.unmap(iova, length) == length for iova, length in taken)


@rule("ioas.map.automatic_aperture")
def test_automatic_iova_is_in_the_aperture(mock_device, ioas, buffer, page_size, aperture):
    iova = ioas.map(buffer, page_size)
    assert aperture[0] <= iova <= aperture[1] + 1 - page_size
    check_map(mock_device.hwpt, iova, buffer, page_size)


@rule("ioas.map.automatic_offset")
@pytest.mark.parametrize("offset", [1, 4095])
def test_automatic_iova_has_the_memorys_offset(ioas, buffer, page_size, offset):
    assert ioas.map(buffer.address + offset, 100) % page_size == offset


@rule("ioas.map.automatic_alignment")
@pytest.mark.parametrize("size", [1 << 13, 1 << 21])
def test_automatic_iova_is_as_aligned_as_the_memory(ioas, aligned, size):
    ioas.map(aligned, PAGE)
    assert ioas.map(aligned, size) % size == 0


@rule("ioas.map.automatic_alignment_of_a_huge_page")
def test_automatic_iova_for_much(ioas):
    first, length = HUGE_PAGE_SIZE, 1 << 30
    ioas.allow_iovas((first, first + length - 1))
    assert ioas.map(0, length) == first


@rule("ioas.map.automatic_reserved")
def test_automatic_iova_is_not_reserved(ioas, buffer, page_size):
    ioas.add_reserved(0, 1 << 32)
    ioas.add_reserved((1 << 32) + page_size, LAST - (1 << 33))
    assert ioas.map(buffer, page_size) == 1 << 32
    assert ioas.map(buffer, page_size) >= LAST - (1 << 33)


@rule("ioas.map.automatic_hole")
def test_automatic_iova_may_be_between_areas(ioas, buffer, page_size):
    end = 8 * page_size
    ioas.allow_iovas((page_size, end - 1))
    for number in (1, 2, 4, 5, 6, 7):
        ioas.map(buffer, page_size, iova=number * page_size)
    with raises_errno(ENOSPC):
        # at 0 memory is as aligned as it is long
        ioas.map(0, 2 * page_size)
    assert ioas.map(buffer, page_size) == 3 * page_size


@rule("ioas.map.no_room")
@pytest.mark.parametrize("why", ["reserved", "aperture", "allowed"])
def test_no_room_for_an_automatic_iova(expected, request, ioas, page_size, uapi, why):
    length = page_size
    if why == "reserved":
        ioas.add_reserved(0, LAST)
    elif why == "allowed":
        ioas.allow_iovas((1 << 20, (1 << 20) + page_size - 2))
    else:
        request.getfixturevalue("mock_device")
        length = uapi.MOCK_APERTURE_LAST + 1
    with expected:
        ioas.map(0, length)


@rule("ioas.map.no_room_at_the_end")
@pytest.mark.parametrize("length", [PAGE, 2 * PAGE])
def test_automatic_iova_does_not_wrap(expected, ioas, length):
    ioas.add_reserved(6, LAST - 6 - 0x10)
    with expected:
        ioas.map(0, length)


@rule("ioas.map.no_aligned_room_at_the_end")
@pytest.mark.parametrize("what", ["left", "allowed"])
def test_automatic_iova_is_not_rounded_up_beyond_the_end(expected, ioas, what):
    room = 0x8000
    if what == "left":
        ioas.add_reserved(0, LAST - room + 1)
    else:
        ioas.allow_iovas((LAST - room + 1, LAST))
    with expected:
        ioas.map(0, 2 * room)


@rule("ioas.map.automatic_huge")
@pytest.mark.parametrize("length", [(1 << 63) - 1, LAST - 2 * PAGE], ids=hex)
def test_automatic_iova_for_half_of_all(expected, ioas, length):
    with expected:
        ioas.map(0, length)


@rule("ioas.map.fixed_huge")
def test_fixed_iova_for_half_of_all(ioas):
    ioas.map(0, 1 << 63, iova=0)
    assert ioas.unmap_all() == 1 << 63


# ---- what is left ----


@rule("ioas.map.undone")
def test_failed_map_leaves_nothing(mock_device, ioas, buffer, page_size, base):
    buffer.unmap(8 * page_size)
    with raises_errno(EFAULT):
        ioas.map(buffer, iova=base)
    with raises_errno(ENOENT):
        ioas.unmap(base, buffer.size)
    ioas.map(buffer, 8 * page_size, iova=base)
    check_map(mock_device.hwpt, base, buffer, 8 * page_size)


@rule("ioas.map.output")
def test_iova_is_written_only_on_success(ioas, buffer):
    with raises_errno(EINVAL) as caught:
        ioas.map(buffer, 0, iova=0x1234, flags=6)
    assert caught[0].struct
    assert caught[0].struct.iova == 0x1234


@rule("ioas.map.unwritable")
def test_struct_cannot_be_written(expected, ioas, buffer, unwritable):
    fields = {"user_va": buffer, "length": buffer.size, "iova": PAGE}
    with expected:
        unwritable("IOMMU_IOAS_MAP", flags=FIXED_RW, ioas_id=ioas, **fields)
    assert ioas.unmap(PAGE, buffer.size) == buffer.size
