# SPDX-License-Identifier: GPL-2.0-only
"""Several HWPTs of an IOAS, areas of the same pages, and accesses between them."""

from __future__ import annotations

from errno import EINVAL, ENOENT
from itertools import count, permutations
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import IoctlError, raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map, check_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd import Context, Hwpt, Ioas, MockDevice
    from pytest_iommufd.iommufd.file import IoctlFile

PLACE = 0x4000_0000
PAGE = 0x1000
HELPED = 14


@pytest.fixture
def hwpts(iommufd: Context, mock_device: MockDevice, ioas: Ioas) -> list[Hwpt]:
    """Three HWPTs of the IOAS, one after the other made."""
    return [mock_device.hwpt, *(iommufd.hwpt_alloc(mock_device, ioas) for _ in range(2))]


@rule("pages.domains.all")
def test_all_hwpts_have_what_is_mapped(hwpts, ioas, buffer):
    iova = ioas.map(buffer)
    for hwpt in hwpts:
        check_map(hwpt, iova, buffer, buffer.size)
    check_refs(ioas.context, buffer, buffer.size, 1)


@rule("pages.domains.unmapped")
def test_no_hwpt_has_what_is_unmapped(hwpts, ioas, buffer):
    iova = ioas.map(buffer, 2 * PAGE)
    kept = ioas.map(buffer, 2 * PAGE)
    ioas.unmap(iova, 2 * PAGE)
    for hwpt in hwpts:
        with raises_errno(EINVAL):
            check_map(hwpt, iova, buffer, PAGE)
        check_map(hwpt, kept, buffer, 2 * PAGE)


@rule("pages.domains.go_in_any_order")
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_pages_stay_until_the_last_device_goes(mock_devices, iommufd, ioas, buffer, order):
    first = mock_devices()
    others = [mock_devices(iommufd.hwpt_alloc(first, ioas)) for _ in range(2)]
    devices = [first, *others]
    iova = ioas.map(buffer)
    for number, gone in enumerate(order):
        hwpt = devices[gone].hwpt
        devices[gone].destroy()
        if gone:
            hwpt.destroy()
        for left in order[number + 1 :]:
            check_map(devices[left].hwpt, iova, buffer, buffer.size)
            check_refs(iommufd, buffer, buffer.size, 1)
    check_refs(iommufd, buffer, buffer.size, 0)
    assert ioas.unmap_all() == buffer.size


@rule("pages.domains.later")
def test_device_that_comes_gets_all_areas(iommufd, ioas, buffer, base):
    for number in range(4):
        ioas.map(buffer.address + number * PAGE, PAGE, iova=base + 2 * number * PAGE)
    check_refs(iommufd, buffer, buffer.size, 0)
    device = iommufd.mock_device(ioas)
    for number in range(4):
        check_map(device.hwpt, base + 2 * number * PAGE, buffer.address + number * PAGE, PAGE)
    check_refs(iommufd, buffer, 4 * PAGE, 1)


@rule("pages.domains.alignment")
@pytest.mark.parametrize("what", ["iova", "length", "memory"])
def test_device_does_not_come_where_an_area_is_unaligned(expected, iommufd, ioas, buffer, what):
    odd = {"iova": 0, "length": 0, "memory": 0} | {what: 1024}
    ioas.map(buffer.address + odd["memory"], PAGE + odd["length"], iova=PLACE + odd["iova"])
    with expected:
        iommufd.mock_device(ioas)
    assert (ioas.alignment(), len(ioas.iova_ranges())) == (1, 1)


@rule("pages.domains.aperture")
@pytest.mark.parametrize("iova", [0xFF_F800, 0x7FFF_F800], ids=hex)
def test_device_does_not_come_where_an_area_is_out_of_reach(expected, iommufd, ioas, buffer, iova):
    ioas.map(buffer, PAGE, iova=iova)
    with expected:
        iommufd.mock_device(ioas)
    assert ioas.iova_ranges() == [(0, (1 << 64) - 1)]


@rule("pages.domains.memory_gone")
@pytest.mark.parametrize("protection", [0, 1], ids=["none", "read_only"])
@pytest.mark.parametrize("gone", [0, 3])
def test_device_does_not_come_where_memory_cannot_be_pinned(
    expected, iommufd, ioas, buffers, gone, protection
):
    memory = [buffers(2 * PAGE) for _ in range(4)]
    for number, part in enumerate(memory):
        ioas.map(part, iova=PLACE + 4 * number * PAGE)
    memory[gone].protect(protection, PAGE, PAGE)
    with expected:
        iommufd.mock_device(ioas)
    assert ioas.iova_ranges() == [(0, (1 << 64) - 1)]
    memory[gone].protect(3)
    for part in memory:
        check_refs(iommufd, part, part.size, 0)
    iommufd.mock_device(ioas).destroy()


@rule("pages.domains.refused_second")
def test_second_hwpt_that_is_refused_leaves_the_first(
    expected, iommufd, mock_device, ioas, other_ioas, buffer
):
    iova = ioas.map(buffer)
    other_ioas.copy(ioas, iova, PAGE, iova=PLACE)
    other_ioas.map(0, PAGE, iova=PLACE + PAGE)
    with expected:
        mock_device.replace(other_ioas)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)
    check_refs(iommufd, buffer, buffer.size, 1)


def each_failure(iommufd: IoctlFile, call: Callable[[], object]) -> Iterator[bool]:
    """Make a call with each point of it failing in turn; yields whether it failed all the same."""
    held = 0
    for nth in count(1):
        try:
            with iommufd.sending(fail_nth=nth):
                call()
        except IoctlError:
            held = 0
            yield True
        else:
            held += 1
            yield False
        # some failures are helped; after so many in a row there are no more points
        if held == HELPED:
            return


@rule("pages.domains.map_without_memory")
def test_map_fails_in_the_middle(hwpts, memory_limit, ioas, buffer):
    memory_limit(16)
    size = 3 * PAGE
    for failed in each_failure(ioas.context, lambda: ioas.map(buffer, size, iova=PLACE)):
        check_refs(ioas.context, buffer, size, int(not failed))
        assert ioas.unmap_all() == (0 if failed else size)
    ioas.map(buffer, size, iova=PLACE)
    for hwpt in hwpts:
        check_map(hwpt, PLACE, buffer, size)


@rule("pages.domains.second_without_memory")
def test_second_hwpt_fails_in_the_middle(iommufd, mock_device, ioas, buffer):
    places = [PLACE, PLACE + 2 * buffer.size]
    for place in places:
        ioas.map(buffer, iova=place)

    def make() -> None:
        iommufd.hwpt_alloc(mock_device, ioas).destroy()

    assert True in list(each_failure(iommufd, make))
    for place in places:
        check_map(mock_device.hwpt, place, buffer, buffer.size)
    check_refs(iommufd, buffer, buffer.size, 2)
    assert ioas.unmap_all() == 2 * buffer.size
    check_refs(iommufd, buffer, buffer.size, 0)


@rule("pages.overlap.mapped_twice")
def test_memory_mapped_twice_is_pinned_twice(mock_device, ioas, buffer):
    ioas.map(buffer, 4 * PAGE)
    iova = ioas.map(buffer.address + PAGE, 4 * PAGE)
    check_refs(ioas.context, buffer, PAGE, 1)
    check_refs(ioas.context, buffer.address + PAGE, 3 * PAGE, 2)
    ioas.unmap(iova, 4 * PAGE)
    check_refs(ioas.context, buffer, 4 * PAGE, 1)
    assert mock_device.id


@rule("pages.overlap.copies")
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_copies_share_their_pages(mock_device, ioas, other_ioas, buffer, order):
    source = other_ioas.map(buffer)
    parts = ((0, 4), (2, 4), (0, 8))
    placed = [ioas.copy(other_ioas, source + s * PAGE, n * PAGE) for s, n in parts]
    for number, gone in enumerate(order):
        ioas.unmap(placed[gone], parts[gone][1] * PAGE)
        left = [parts[one] for one in order[number + 1 :]]
        for start, length in left:
            check_refs(ioas.context, buffer.address + start * PAGE, length * PAGE, 1)
        used = {start + page for start, length in left for page in range(length)}
        for page in set(range(8)) - used:
            check_refs(ioas.context, buffer.address + page * PAGE, PAGE, 0)
    assert mock_device.id


@rule("pages.overlap.other_ioas")
def test_pages_are_pinned_once_for_two_ioases(mock_device, iommufd, ioas, other_ioas, buffer):
    second = iommufd.mock_device(other_ioas)
    iova = ioas.map(buffer)
    copied = other_ioas.copy(ioas, iova, buffer.size)
    check_refs(iommufd, buffer, buffer.size, 1)
    mock_device.destroy()
    check_map(second.hwpt, copied, buffer, buffer.size)
    ioas.destroy()
    check_refs(iommufd, buffer, buffer.size, 1)


@rule("pages.access.device_goes")
@pytest.mark.parametrize("spans", [[(0, 1)], [(5, 11)], [(0, 4), (2, 4), (15, 1)]], ids=str)
def test_pinned_pages_stay_when_the_device_goes(mock_device, ioas, buffer, spans):
    iova = ioas.map(buffer)
    access = ioas.create_access(pin=True)
    for start, length in spans:
        access.pin(iova + start * PAGE, length * PAGE, buffer.address + start * PAGE)
    mock_device.destroy()
    held = {start + page for start, length in spans for page in range(length)}
    for page in range(16):
        check_refs(ioas.context, buffer.address + page * PAGE, PAGE, int(page in held))
    access.close()
    check_refs(ioas.context, buffer, buffer.size, 0)


@rule("pages.access.device_comes")
@pytest.mark.parametrize("spans", [[(0, 1)], [(2, 3), (7, 2)], [(0, 16)]], ids=str)
def test_device_has_pinned_pages_and_others(iommufd, ioas, buffer, base, spans):
    ioas.map(buffer, iova=base)
    access = ioas.create_access(pin=True)
    for start, length in spans:
        access.pin(base + start * PAGE, length * PAGE, buffer.address + start * PAGE)
    device = iommufd.mock_device(ioas)
    check_map(device.hwpt, base, buffer, buffer.size)
    access.close()
    check_map(device.hwpt, base, buffer, buffer.size)
    check_refs(iommufd, buffer, buffer.size, 1)


@rule("pages.access.copied")
def test_pinned_pages_are_those_of_a_copy(mock_device, ioas, other_ioas, buffer):
    source = other_ioas.map(buffer)
    access = other_ioas.create_access(pin=True)
    item = access.pin(source, buffer.size, buffer)
    iova = ioas.copy(other_ioas, source, buffer.size)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)
    other_ioas.unmap_all()
    with raises_errno(ENOENT):
        access.unpin(item)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)
    check_refs(ioas.context, buffer, buffer.size, 1)
