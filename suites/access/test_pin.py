# SPDX-License-Identifier: GPL-2.0-only
"""ACCESS_PAGES and DESTROY_ACCESS_PAGES: pages that a driver holds."""

from __future__ import annotations

import mmap
from errno import EFAULT, ENOENT, EPERM
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Ioas
from pytest_iommufd.iommufd.accounting import as_seen_by
from pytest_iommufd.iommufd.checks import check_map, check_refs

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import MockDevice

PAGE = 0x1000
LAST = (1 << 64) - 1
PLACE = 0x4000_0000
SYZ = 1 << 16
DEVICE = pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])


@pytest.fixture
def attached(request: pytest.FixtureRequest, *, device: bool) -> MockDevice | None:
    """A mock device, or none."""
    made: MockDevice | None = request.getfixturevalue("mock_device") if device else None
    return made


@rule("access.pin.pins")
@pytest.mark.parametrize("pages", [1, 2, 15])
@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
def test_pages_are_pinned(buffer, access, area, pages, write):
    item = access.pin(area, pages * PAGE, buffer, write=write)
    check_refs(access.context, buffer, pages * PAGE, 1)
    check_refs(access.context, buffer.address + pages * PAGE, PAGE, 0)
    access.unpin(item)
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.pin.part")
@pytest.mark.parametrize(("first", "length"), [(1, 1), (3, 2 * PAGE), (2, 0x1001)])
@DEVICE
def test_part_of_an_area(attached, buffer, access, area, first, length):
    start = first * PAGE
    item = access.pin(area + start, length, buffer.address + start)
    check_refs(access.context, buffer.address + start, -(-length // PAGE) * PAGE, 1)
    access.unpin(item)
    check_refs(access.context, buffer, buffer.size, 0 if attached is None else 1)


@rule("access.pin.shared")
@DEVICE
def test_pages_are_pinned_once(attached, buffer, access, area):
    items = [access.pin(area, size, buffer) for size in (4 * PAGE, 4 * PAGE, 2 * PAGE, 8 * PAGE)]
    check_refs(access.context, buffer, 8 * PAGE, 1)
    for item in items:
        check_refs(access.context, buffer, 2 * PAGE, 1)
        access.unpin(item)
    check_refs(access.context, buffer, 8 * PAGE, 0 if attached is None else 1)


@rule("access.pin.across_devices")
def test_devices_come_and_go_while_pages_are_pinned(iommufd, ioas, buffer, access, area):
    item = access.pin(area + PAGE, 2 * PAGE, buffer.address + PAGE)
    device = iommufd.mock_device(ioas)
    check_map(device.hwpt, area, buffer, buffer.size)
    device.destroy()
    check_refs(iommufd, buffer.address + PAGE, 2 * PAGE, 1)
    check_refs(iommufd, buffer, PAGE, 0)
    device = iommufd.mock_device(ioas)
    access.unpin(item)
    check_map(device.hwpt, area, buffer, buffer.size)


@rule("access.pin.several_areas")
def test_several_areas_that_touch(ioas, buffer, access):
    for number in range(3):
        ioas.map(buffer.address + number * PAGE, PAGE, iova=PLACE + number * PAGE)
    item = access.pin(PLACE, 3 * PAGE, buffer)
    check_refs(access.context, buffer, 3 * PAGE, 1)
    access.unpin(item)
    check_refs(access.context, buffer, 3 * PAGE, 0)


@rule("access.pin.unmap")
@DEVICE
def test_unmapping_takes_the_pages_away(attached, ioas, buffer, access, area):
    items = [access.pin(area, PAGE, buffer), access.pin(area, buffer.size, buffer)]
    assert ioas.unmap(area, buffer.size) == buffer.size
    check_refs(ioas.context, buffer, buffer.size, 0)
    for item in items:
        with raises_errno(ENOENT):
            access.unpin(item)
    assert attached is None or attached.id


@rule("access.pin.unmap_others")
def test_unmapping_leaves_other_areas_pinned(ioas, buffer, access, area):
    ioas.map(buffer.address, PAGE, iova=PLACE << 1)
    kept = access.pin(area, buffer.size, buffer)
    ioas.unmap(PLACE << 1, PAGE)
    check_refs(ioas.context, buffer, buffer.size, 1)
    access.unpin(kept)


@rule("access.pin.unmap_all")
def test_unmapping_all_asks_every_access(ioas, buffer, access, area):
    others = [ioas.create_access(pin=True) for _ in range(3)]
    for one in (access, *others):
        one.pin(area, 2 * PAGE, buffer)
    assert ioas.unmap_all() == buffer.size
    check_refs(ioas.context, buffer, buffer.size, 0)


@rule("access.pin.close")
@DEVICE
def test_closing_unpins(attached, buffer, access, area):
    access.pin(area, PAGE, buffer)
    access.pin(area, 2 * PAGE, buffer)
    access.close()
    check_refs(access.context, buffer, buffer.size, 0 if attached is None else 1)


@rule("access.pin.length_zero")
def test_no_byte(expected, access, area):
    with expected:
        access.pin(area, 0)


@rule("access.pin.wraps")
@pytest.mark.parametrize(("iova", "length"), [(LAST - 0xFFF, 2 * PAGE), (LAST, 2)])
def test_range_wraps(expected, access, iova, length):
    with expected:
        access.pin(iova, length)


@rule("access.pin.not_mapped")
@pytest.mark.parametrize(
    ("first", "length"), [(0x1_0000, 1), (0xF000, 2 * PAGE), (-PAGE, 2 * PAGE)]
)
def test_range_is_not_all_mapped(expected, buffer, access, area, first, length):
    with expected:
        access.pin(area + first, length)
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.pin.hole")
def test_range_has_a_hole(expected, ioas, buffer, access):
    for number in (0, 2):
        ioas.map(buffer.address + number * PAGE, PAGE, iova=PLACE + number * PAGE)
    with expected:
        access.pin(PLACE, 3 * PAGE)
    check_refs(access.context, buffer, buffer.size, 0)
    assert ioas.unmap_all() == 0x2000


@rule("access.pin.unaligned")
@pytest.mark.parametrize("by", [1, 0x800])
def test_range_begins_within_a_page(expected, access, area, by):
    with expected:
        access.pin(area + by, 0x800)


@rule("access.pin.protection")
@pytest.mark.parametrize(("flags", "write"), [(4, True), (2, False)], ids=["write", "read"])
def test_area_does_not_allow_it(expected, ioas, buffer, access, flags, write):
    ioas.map(buffer, iova=PLACE, flags=flags | 1)
    with expected:
        access.pin(PLACE, PAGE, write=write)
    access.unpin(access.pin(PLACE, PAGE, write=not write))


@rule("access.pin.later_protection")
def test_later_area_does_not_allow_it(ioas, buffer, access):
    ioas.map(buffer, PAGE, iova=PLACE)
    ioas.map(buffer, PAGE, iova=PLACE + PAGE, flags=5)
    with raises_errno(EPERM):
        access.pin(PLACE, 2 * PAGE, write=True)
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.pin.memory_gone")
@pytest.mark.parametrize("gone", [0, 3])
def test_memory_is_gone(expected, ioas, buffers, access, gone):
    memory = buffers(4 * PAGE)
    iova = ioas.map(memory)
    memory.unmap(gone * PAGE, PAGE)
    with expected:
        access.pin(iova, 4 * PAGE)
    for number in {0, 1, 2, 3} - {gone}:
        check_refs(ioas.context, memory.address + number * PAGE, PAGE, 0)


@rule("access.pin.memory_of_a_device")
def test_memory_that_a_device_has_is_never_gone(mock_device, access, ioas, buffers):
    memory = buffers(2 * PAGE)
    memory.write(b"kept")
    iova = ioas.map(memory)
    memory.unmap()
    access.unpin(access.pin(iova, 2 * PAGE))
    assert mock_device.id


@rule("access.pin.process_gone")
def test_process_is_gone(expected, iommufd, ioas, access, buffer):
    child = iommufd.process.fork()
    Ioas(as_seen_by(iommufd, child), ioas.id).map(buffer, 2 * PAGE, iova=PLACE)
    child.end()
    with expected:
        access.pin(PLACE, PAGE)


@rule("access.pin.other_process")
def test_memory_of_another_process(iommufd, ioas, access, buffer):
    child = iommufd.process.fork()
    Ioas(as_seen_by(iommufd, child), ioas.id).map(buffer, 2 * PAGE, iova=PLACE)
    access.unpin(access.pin(PLACE, 2 * PAGE, buffer))


@rule("access.pin.other_pages")
def test_kernel_compares_the_pages(expected, buffer, access, area):
    with expected:
        access.pin(area, 2 * PAGE, buffer.address + PAGE)
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.pin.compare_unreadable")
def test_kernel_cannot_compare_the_pages(expected, buffer, access, area, unmapped):
    with expected:
        access.pin(area, PAGE, unmapped)
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.pin.too_long")
@pytest.mark.parametrize("flags", [0, 2])
def test_range_is_too_long(expected, access, flags):
    with expected:
        access.pin(PLACE, (16 << 20) + 1, flags=flags)


@rule("access.pin.flags")
@pytest.mark.parametrize("bit", [1, 17, 31])
def test_unknown_flag(expected, access, area, bit):
    with expected:
        access.pin(area, PAGE, flags=1 << bit)


@rule("access.pin.not_for_all")
def test_access_that_does_not_pin(expected, ioas, area):
    unpinning = ioas.create_access()
    with expected:
        unpinning.pin(area, PAGE)


@rule("access.pin.syz")
def test_nth_area(expected, ioas, buffer, access):
    ioas.map(buffer, PAGE, iova=PLACE)
    ioas.map(buffer.address + PAGE, 2 * PAGE, iova=PLACE << 1)
    item = access.pin(1 | PAGE << 32, PAGE, buffer.address + 2 * PAGE, flags=SYZ)
    access.unpin(item)
    with expected:
        access.pin(2, PAGE, flags=SYZ)


@rule("access.pin.unwritable")
def test_number_cannot_be_written(expected, iommufd, buffer, access, area, unwritable, uapi):
    op, pages = uapi.IOMMU_TEST_OP_ACCESS_PAGES, {"iova": area, "length": PAGE}
    with expected:
        unwritable("IOMMU_TEST_CMD", op=op, id=access, access_pages=pages)
    check_refs(iommufd, buffer, buffer.size, 0)


@rule("access.unpin.item")
@pytest.mark.parametrize("item", [1, 0xFFFF_FFFF])
def test_nothing_has_that_number(expected, buffer, access, area, item):
    assert access.pin(area, PAGE, buffer) == 0
    with expected:
        access.unpin(item)
    access.unpin(0)


@rule("access.unpin.twice")
def test_unpinned_twice(expected, buffer, access, area):
    item = access.pin(area, PAGE, buffer)
    access.unpin(item)
    with expected:
        access.unpin(item)


@rule("access.unpin.own")
def test_number_is_of_its_own_access(expected, ioas, buffer, access, area):
    item = access.pin(area, PAGE, buffer)
    other = ioas.create_access(pin=True)
    with expected:
        other.unpin(item)
    access.unpin(item)


@rule("access.pin.readonly_memory")
def test_readonly_memory(ioas, buffer, access):
    buffer.protect(mmap.PROT_READ)
    ioas.map(buffer, iova=PLACE, flags=5)
    access.unpin(access.pin(PLACE, buffer.size, buffer))
    ioas.map(buffer, iova=PLACE << 1)
    with raises_errno(EFAULT):
        access.pin(PLACE << 1, PAGE)
