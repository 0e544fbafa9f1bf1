# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_IOVA_RANGES: where something can be mapped."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Ioas

LAST = (1 << 64) - 1
RANGES = "IOMMU_IOAS_IOVA_RANGES"
HOLES = [(0, 0xFFFF), (0x2_0000, 0x2_FFFF), (0x4_0000, LAST)]


@pytest.fixture
def holes(ioas: Ioas) -> list[tuple[int, int]]:
    """Three ranges, because two parts of the IOAS are reserved."""
    ioas.add_reserved(0x3_0000, 0x1_0000)
    ioas.add_reserved(0x1_0000, 0x1_0000)
    return HOLES


@rule("ioas.ranges.fresh")
def test_fresh_ioas_has_all(ioas):
    assert ioas.iova_ranges() == [(0, LAST)]
    assert ioas.alignment() == 1


@rule("ioas.ranges.aperture")
def test_device_leaves_its_aperture(mock_device, ioas, aperture, uapi):
    assert mock_device.id
    assert ioas.iova_ranges() == [aperture]
    assert ioas.alignment() == (uapi.MOCK_PAGE_SIZE if uapi.has("MOCK_PAGE_SIZE") else 2048)


@rule("ioas.ranges.same_aperture")
def test_second_device_takes_nothing_more(mock_devices, ioas, aperture):
    devices = [mock_devices(), mock_devices()]
    assert ioas.iova_ranges() == [aperture]
    devices[0].destroy()
    assert ioas.iova_ranges() == [aperture]


@rule("ioas.ranges.device_gone")
def test_device_gives_back_what_it_took(mock_device, ioas):
    mock_device.destroy()
    assert ioas.iova_ranges() == [(0, LAST)]
    assert ioas.alignment() == 1


@rule("ioas.ranges.reserved_iova")
def test_reserved_iova_is_left_out(ioas, holes):
    assert ioas.iova_ranges() == holes


@rule("ioas.ranges.reserved_twice")
def test_reserved_iova_may_overlap(ioas):
    ioas.add_reserved(0x1_0000, 0x1_0000)
    ioas.add_reserved(0x1_8000, 0x1_0000)
    assert ioas.iova_ranges() == [(0, 0xFFFF), (0x2_8000, LAST)]


@rule("ioas.ranges.last_byte")
def test_last_byte_is_a_range(ioas):
    ioas.add_reserved(0, LAST)
    assert ioas.iova_ranges() == [(LAST, LAST)]


@rule("ioas.ranges.none")
@pytest.mark.parametrize("room", [0, 4])
def test_all_is_reserved(ioas, room):
    ioas.add_reserved(0, LAST)
    ioas.add_reserved(LAST, 1)
    assert ioas.iova_ranges(room) == []


@rule("ioas.ranges.areas")
def test_mapped_iova_is_not_left_out(ioas, buffer):
    ioas.map(buffer)
    assert ioas.iova_ranges() == [(0, LAST)]


@rule("ioas.ranges.allowed")
def test_allowed_list_is_not_what_is_told(ioas):
    ioas.allow_iovas((0x1000, 0x1FFF))
    assert ioas.iova_ranges() == [(0, LAST)]


@rule("ioas.ranges.alignment")
def test_alignment_is_a_page_without_huge_pages(ioas, page_size):
    ioas.huge_pages(0)
    assert ioas.alignment() == page_size
    ioas.huge_pages(1)
    assert ioas.alignment() == 1


@rule("ioas.ranges.too_small")
@pytest.mark.parametrize("room", [0, 1, 2])
def test_array_is_too_small(expected, iommufd, ioas, holes, buffer, room):
    at = buffer.write(b"\xee" * 64)
    with expected:
        iommufd.ioctl(RANGES, ioas_id=ioas, num_iovas=room, allowed_iovas=at)
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.num_iovas == 3
    assert expected.error.struct.out_iova_alignment == 1
    written = b"".join(struct.pack("<QQ", *hole) for hole in holes[:room])
    assert buffer.read(64) == written.ljust(64, b"\xee")


@rule("ioas.ranges.no_array")
def test_no_room_needs_no_array(expected, iommufd, ioas, unmapped):
    with expected:
        iommufd.ioctl(RANGES, ioas_id=ioas, num_iovas=0, allowed_iovas=unmapped)


@rule("ioas.ranges.beyond")
def test_array_is_written_only_as_far_as_needed(iommufd, ioas, holes, buffer):
    at = buffer.write(b"\xee" * 80)
    made = iommufd.ioctl(RANGES, ioas_id=ioas, num_iovas=5, allowed_iovas=at)
    assert made.num_iovas == len(holes)
    assert buffer.read(32, 48) == b"\xee" * 32


@rule("ioas.ranges.unwritable")
@pytest.mark.parametrize("fits", [0, 1, 2])
def test_array_cannot_be_written(expected, iommufd, ioas, holes, unmapped, fits):
    assert holes
    with expected:
        iommufd.ioctl(
            RANGES,
            ioas_id=ioas,
            num_iovas=7,
            allowed_iovas=unmapped - 16 * fits,
            out_iova_alignment=9,
        )
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.num_iovas == 7
    assert expected.error.struct.out_iova_alignment == 9


@rule("ioas.ranges.struct_unwritable")
def test_struct_cannot_be_written(expected, ioas, unwritable):
    with expected:
        unwritable(RANGES, ioas_id=ioas)


@rule("ioas.ranges.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_reserved_field(expected, iommufd, ioas, bit):
    with expected:
        iommufd.ioctl(RANGES, ioas_id=ioas, __reserved=1 << bit)


@rule("ioas.ranges.ioas_id")
def test_unknown_ioas(expected, iommufd, unknown_id):
    with expected:
        iommufd.ioctl(RANGES, ioas_id=unknown_id)


@rule("ioas.ranges.ioas_id.other_type")
def test_ioas_of_another_type(expected, iommufd, auto_hwpt):
    with expected:
        iommufd.ioctl(RANGES, ioas_id=auto_hwpt)
