# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_COPY: the same memory mapped once more."""

from __future__ import annotations

from errno import EFAULT, ENOENT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map, check_refs
from pytest_iommufd.iommufd.ioas import AUTOMATIC_RW, FIXED_RW
from pytest_iommufd.uapi.spare import spare_flags

PAGE = 0x1000
LAST = (1 << 64) - 1
MOCK_PAGE = 2048
PLACE = 0x4000_0000


@rule("ioas.copy.other_ioas")
def test_copy_to_another_ioas(mock_device, ioas, other_ioas, buffer):
    source = other_ioas.map(buffer)
    iova = ioas.copy(other_ioas, source, buffer.size)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)


@rule("ioas.copy.same_ioas")
@pytest.mark.parametrize("iova", [None, PLACE])
def test_copy_within_an_ioas(mock_device, ioas, buffer, area, page_size, iova):
    copied = ioas.copy(ioas, area, 2 * page_size, iova=iova)
    assert copied not in (area, 0)
    assert iova in (None, copied)
    check_map(mock_device.hwpt, copied, buffer, 2 * page_size)
    check_refs(ioas.context, buffer, 2 * page_size, 1)


@rule("ioas.copy.outlives")
def test_copy_outlives_its_source(mock_device, ioas, other_ioas, buffer):
    source = other_ioas.map(buffer)
    iova = ioas.copy(other_ioas, source, buffer.size)
    other_ioas.destroy()
    check_map(mock_device.hwpt, iova, buffer, buffer.size)
    assert ioas.unmap_all() == buffer.size
    check_refs(ioas.context, buffer, buffer.size, 0)


@rule("ioas.copy.part")
@pytest.mark.parametrize(("first", "length"), [(PAGE, PAGE), (0x800, PAGE)])
def test_part_of_an_area(mock_device, ioas, other_ioas, buffer, first, length):
    source = other_ioas.map(buffer, 2 * PAGE)
    iova = ioas.copy(other_ioas, source + first, length, iova=PLACE)
    check_map(mock_device.hwpt, iova, buffer.address + first, length)


@rule("ioas.copy.several")
@pytest.mark.parametrize("first", [0x800, PAGE])
def test_several_areas_at_once(mock_device, ioas, other_ioas, buffer, page_size, first):
    for number in range(4):
        va = buffer.address + number * page_size
        other_ioas.map(va, page_size, iova=PLACE + number * page_size)
    iova = ioas.copy(other_ioas, PLACE + first, 4 * page_size - first, iova=PLACE)
    check_map(mock_device.hwpt, iova, buffer.address + first, 4 * page_size - first)
    assert ioas.unmap(PLACE, 4 * page_size) == 4 * page_size - first


@rule("ioas.copy.several_areas_stay_apart")
def test_copies_of_several_areas_are_apart(ioas, other_ioas, buffer, page_size):
    for number in (1, 2):
        other_ioas.map(buffer, page_size, iova=number * page_size)
    ioas.copy(other_ioas, page_size, 2 * page_size, iova=PLACE)
    assert ioas.unmap(PLACE, page_size) == page_size
    assert ioas.unmap_all() == page_size


@rule("ioas.copy.bytes")
def test_single_bytes(ioas, other_ioas, buffer):
    source = other_ioas.map(buffer, PAGE)
    assert ioas.copy(other_ioas, source + 5, 1, iova=77) == 77
    assert ioas.unmap_all() == 1


@rule("ioas.copy.automatic_offset")
def test_automatic_iova_has_the_memorys_offset(ioas, other_ioas, buffer, page_size):
    source = other_ioas.map(buffer)
    assert ioas.copy(other_ioas, source + 0x1234, 0x100) % page_size == 0x234


@rule("ioas.copy.allowed")
def test_automatic_iova_is_allowed(ioas, other_ioas, buffer):
    source = other_ioas.map(buffer)
    ioas.allow_iovas((PLACE, PLACE + buffer.size - 1))
    assert ioas.copy(other_ioas, source, buffer.size) == PLACE


@rule("ioas.copy.syz")
@pytest.mark.parametrize(("nth", "offset"), [(0, 0), (0, 0x800), (1, 0)])
def test_source_by_number(ioas, other_ioas, buffer, uapi, nth, offset):
    for number in range(2):
        ioas.map(buffer.address + number * PAGE, PAGE, iova=PLACE + number * PAGE)
    source = nth | offset << 32
    iova = other_ioas.copy(ioas, source, 0x800, flags=6 | uapi.MOCK_FLAGS_ACCESS_SYZ)
    buffer.write(b"found", nth * PAGE + offset)
    assert other_ioas.create_access().read(iova, 5) == b"found"


@rule("ioas.copy.flags")
@pytest.mark.parametrize("which", [0, -1], ids=["lowest", "highest"])
def test_unknown_flag(expected, ioas, area, page_size, uapi, which):
    flag = spare_flags(uapi, "iommu_ioas_copy.flags")[which]
    with expected:
        ioas.copy(ioas, area, page_size, flags=6 | flag)


@rule("ioas.copy.largest")
@pytest.mark.parametrize("field", ["length", "src_iova", "dst_iova"])
def test_largest_numbers(expected, ioas, area, field):
    given = {"src_iova": area, "length": 1, "dst_iova": PLACE} | {field: LAST}
    with expected:
        ioas.copy(ioas, area, **(given | {"flags": FIXED_RW}))


@rule("ioas.copy.largest.automatic")
def test_automatic_destination_is_the_last_byte(expected, ioas, area, page_size):
    with expected:
        ioas.copy(ioas, area, page_size, iova=LAST, flags=AUTOMATIC_RW)


@rule("ioas.copy.protection")
@pytest.mark.parametrize("flags", [0, 1], ids=["automatic", "fixed"])
def test_neither_readable_nor_writeable(expected, ioas, area, page_size, flags):
    with expected:
        ioas.copy(ioas, area, page_size, flags=flags)


@rule("ioas.copy.source_id")
def test_unknown_source(expected, ioas, unknown_id):
    with expected:
        ioas.copy(unknown_id, PAGE, PAGE)


@rule("ioas.copy.source_id.other_type")
def test_source_of_another_type(expected, ioas, auto_hwpt):
    with expected:
        ioas.copy(auto_hwpt, PAGE, PAGE)


@rule("ioas.copy.destination_id")
def test_unknown_destination(expected, ioas, area, page_size, unknown_id):
    with expected:
        ioas.copy(ioas, area, page_size, dst_ioas_id=unknown_id)


@rule("ioas.copy.destination_id.other_type")
def test_destination_of_another_type(expected, ioas, area, page_size, auto_hwpt):
    with expected:
        ioas.copy(ioas, area, page_size, dst_ioas_id=auto_hwpt)


@rule("ioas.copy.length_zero")
def test_nothing_to_copy(expected, ioas, area):
    with expected:
        ioas.copy(ioas, area, 0)


@rule("ioas.copy.source_wraps")
@pytest.mark.parametrize("length", [LAST - 1, LAST - 0xFF_FFFE], ids=hex)
def test_source_wraps(expected, ioas, area, length):
    with expected:
        ioas.copy(ioas, area, length)


@rule("ioas.copy.source_wraps")
def test_source_wraps_at_the_end(expected, ioas, buffer, page_size):
    ioas.map(buffer, page_size, iova=LAST - page_size + 1)
    with expected:
        ioas.copy(ioas, LAST - MOCK_PAGE + 1, page_size)


@rule("ioas.copy.not_mapped")
@pytest.mark.parametrize(("first", "length"), [(4 * PAGE, PAGE), (-1, 2), (0x1FFF, 2)])
def test_source_is_not_all_mapped(expected, ioas, other_ioas, area, first, length):
    with expected:
        other_ioas.copy(ioas, area + first, length)
    assert other_ioas.unmap_all() == 0


@rule("ioas.copy.hole")
def test_source_has_a_hole(expected, ioas, other_ioas, buffer):
    ioas.map(buffer, PAGE, iova=PAGE)
    ioas.map(buffer, PAGE, iova=0x2001)
    with expected:
        other_ioas.copy(ioas, PAGE, 2 * PAGE)
    assert other_ioas.unmap_all() == 0


@rule("ioas.copy.sweep")
def test_each_part_that_is_mapped_can_be_copied(ioas, other_ioas, buffer, base):
    ioas.map(buffer, PAGE, iova=base)
    for start in range(-511 * 5, 0x1200, 511):
        inside = 0 <= start <= PAGE - MOCK_PAGE
        if inside:
            other_ioas.copy(ioas, base + start, MOCK_PAGE)
        else:
            with raises_errno(ENOENT):
                other_ioas.copy(ioas, base + start, MOCK_PAGE)


@rule("ioas.copy.occupied")
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_destination_meets_an_area(expected, ioas, area, page_size, offset):
    with expected:
        ioas.copy(ioas, area, 2 * page_size, iova=area + offset * page_size)
    assert ioas.unmap_all() == 2 * page_size


@rule("ioas.copy.destination_wraps")
@pytest.mark.parametrize("iova", [LAST - 1, LAST - 0xFFE], ids=hex)
def test_destination_wraps(expected, ioas, other_ioas, buffer, iova):
    source = other_ioas.map(buffer)
    with expected:
        ioas.copy(other_ioas, source, PAGE, iova=iova)


@rule("ioas.copy.aperture")
@pytest.mark.parametrize("place", ["below", "above"])
def test_destination_outside_the_aperture(
    expected, mock_device, ioas, area, page_size, aperture, place
):
    assert mock_device.id
    iova = aperture[0] - page_size if place == "below" else aperture[1] + 1 - page_size
    with expected:
        ioas.copy(ioas, area, 2 * page_size, iova=iova)


@rule("ioas.copy.unaligned")
@pytest.mark.parametrize("field", ["src_iova", "dst_iova", "length"])
def test_unaligned_with_a_device(expected, mock_device, ioas, area, field):
    assert mock_device.id
    given = {"src_iova": area, "length": PAGE, "dst_iova": PLACE}
    given[field] += MOCK_PAGE // 2
    with expected:
        ioas.copy(ioas, area, **(given | {"flags": FIXED_RW}))


@rule("ioas.copy.readonly")
@pytest.mark.parametrize("flags", [2, 6])
def test_copy_of_readonly_memory_is_not_writeable(expected, ioas, other_ioas, buffer, flags):
    source = other_ioas.map(buffer, flags=4)
    with expected:
        ioas.copy(other_ioas, source, PAGE, flags=flags)
    ioas.copy(other_ioas, source, PAGE, flags=4)


@rule("ioas.copy.writeonly")
@pytest.mark.parametrize("flags", [4, 6])
def test_copy_of_writeonly_memory_may_be_readable(ioas, other_ioas, buffer, flags):
    source = other_ioas.map(buffer, flags=2)
    ioas.copy(other_ioas, source, PAGE, flags=flags)


@rule("ioas.copy.unpinnable")
def test_with_a_device_memory_must_be_there(expected, mock_device, ioas, other_ioas, unmapped):
    assert mock_device.id
    source = other_ioas.map(unmapped, PAGE)
    with expected:
        ioas.copy(other_ioas, source, PAGE)
    assert ioas.unmap_all() == 0


@rule("ioas.copy.several_unpinnable")
def test_of_several_areas_one_cannot_be_pinned(mock_device, ioas, other_ioas, buffer, unmapped):
    assert mock_device.id
    other_ioas.map(buffer, PAGE, iova=PLACE)
    other_ioas.map(unmapped, PAGE, iova=PLACE + PAGE)
    with raises_errno(EFAULT):
        ioas.copy(other_ioas, PLACE, 2 * PAGE, iova=PLACE)
    assert ioas.unmap_all() == 0
    check_refs(ioas.context, buffer, buffer.size, 0)


@rule("ioas.copy.unwritable")
def test_struct_cannot_be_written(expected, ioas, other_ioas, area, unwritable):
    fields = {"src_ioas_id": ioas, "dst_ioas_id": other_ioas, "src_iova": area}
    with expected:
        unwritable("IOMMU_IOAS_COPY", flags=6, length=2 * PAGE, **fields)
    assert other_ioas.unmap_all() == 0x2000
