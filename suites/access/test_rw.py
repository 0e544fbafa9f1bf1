# SPDX-License-Identifier: GPL-2.0-only
"""ACCESS_RW: bytes that a driver copies, on the fast path and on the slow one."""

from __future__ import annotations

import mmap
from errno import EFAULT, ENOENT
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Ioas
from pytest_iommufd.iommufd.accounting import as_seen_by
from pytest_iommufd.iommufd.checks import check_refs

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.access import Access

PAGE = 0x1000
LAST = (1 << 64) - 1
PLACE = 0x4000_0000
SYZ = 1 << 16
PATTERN = bytes(range(1, 252)) * 270
# from a page's last 32 bytes on: within it, up to its end, and into the next
LENGTHS = (1, 31, 32, 33, 63)
WRITE = pytest.mark.parametrize("write", [False, True], ids=["read", "write"])


def call(access: Access, iova: int, length: int, path: int, *, write: bool) -> None:
    """Read or write bytes that do not matter."""
    if write:
        access.write(iova, bytes(length), path)
    else:
        access.read(iova, length, path)


@rule("access.rw.read")
@pytest.mark.parametrize("first", [0, PAGE - 32, 0x2000 - 1])
def test_read(buffer, access, area, path, first):
    buffer.write(PATTERN[: buffer.size])
    for length in LENGTHS:
        assert access.read(area + first, length, path) == PATTERN[first : first + length]


@rule("access.rw.write")
@pytest.mark.parametrize("first", [0x10, PAGE - 32, 0x2000 - 1])
def test_write(buffer, access, area, path, first):
    for length in LENGTHS:
        access.write(area + first, PATTERN[:length], path)
        assert buffer.read(length + 2, first - 1) == b"\0" + PATTERN[:length] + b"\0"


@rule("access.rw.long")
def test_sixteen_pages(buffer, access, area, path):
    access.write(area, PATTERN[: buffer.size], path)
    assert buffer.read(buffer.size) == PATTERN[: buffer.size]
    assert access.read(area, buffer.size, path) == PATTERN[: buffer.size]
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.rw.device")
def test_with_a_device(mock_device, buffer, access, area, path):
    access.write(area + 0xFF0, PATTERN[:0x2000], path)
    assert buffer.read(2 * PAGE, 0xFF0) == PATTERN[:0x2000]
    mock_device.destroy()
    check_refs(access.context, buffer, buffer.size, 0)


@rule("access.rw.pinned")
def test_with_pinned_pages(buffer, access, area, path):
    access.pin(area + PAGE, 2 * PAGE, buffer.address + PAGE)
    access.write(area + 0x800, PATTERN[:0x3000], path)
    assert access.read(area + 0x800, 3 * PAGE, path) == PATTERN[:0x3000]
    check_refs(access.context, buffer.address + PAGE, 2 * PAGE, 1)
    check_refs(access.context, buffer, PAGE, 0)


@rule("access.rw.unaligned")
@pytest.mark.parametrize("offset", [0x800, 0xFFF])
def test_unaligned_area(ioas, buffer, path, offset):
    ioas.map(buffer.address + offset, 0x3001, iova=PLACE + 7)
    access = ioas.create_access()
    access.write(PLACE + 7, PATTERN[:0x3001], path)
    assert buffer.read(0x3001, offset) == PATTERN[:0x3001]
    assert access.read(PLACE + 7 + 0xFF0, 0x20, path) == PATTERN[0xFF0:0x1010]


@rule("access.rw.several_areas")
def test_several_areas_that_touch(ioas, buffer, path):
    for number in (1, 0, 2):
        ioas.map(buffer.address + 0x2000 * number, 0x800, iova=PLACE + 0x800 * number)
    ioas.create_access().write(PLACE + 1, PATTERN[:0x17FE], path)
    assert buffer.read(0x800, 2 * PAGE) == PATTERN[0x7FF:0xFFF]
    assert buffer.read(0x801, 4 * PAGE) == PATTERN[0xFFF:0x17FE] + b"\0\0"


@rule("access.rw.length_zero")
@WRITE
def test_no_byte(expected, access, area, path, write):
    with expected:
        call(access, area, 0, path, write=write)


@rule("access.rw.wraps")
@WRITE
def test_range_wraps(expected, access, path, write):
    with expected:
        call(access, LAST - 0xFFE, PAGE, path, write=write)


@rule("access.rw.not_mapped")
@pytest.mark.parametrize(("first", "length"), [(-1, 2), (0xFFFF, 2)])
@WRITE
def test_range_is_not_all_mapped(expected, access, area, path, first, length, write):
    with expected:
        call(access, area + first, length, path, write=write)


@rule("access.rw.before_the_end")
def test_what_is_before_the_hole_is_written(expected, buffer, access, area, path):
    with expected:
        access.write(area + buffer.size - 2, b"abc", path)
    assert buffer.read(2, buffer.size - 2) == b"ab"


@rule("access.rw.protection")
@pytest.mark.parametrize(("flags", "write"), [(4, True), (2, False)], ids=["write", "read"])
def test_area_does_not_allow_it(expected, ioas, buffer, access, path, flags, write):
    ioas.map(buffer, iova=PLACE, flags=flags | 1)
    with expected:
        call(access, PLACE, 1, path, write=write)
    call(access, PLACE, 1, path, write=not write)


@rule("access.rw.memory_gone")
@pytest.mark.parametrize("length", [1, 2 * PAGE])
@WRITE
def test_memory_is_gone(expected, ioas, access, buffers, path, length, write):
    memory = buffers(2 * PAGE)
    iova = ioas.map(memory)
    memory.unmap()
    with expected:
        call(access, iova, length, path, write=write)


@rule("access.rw.memory_readonly")
@pytest.mark.parametrize("length", [1, 2 * PAGE])
def test_memory_is_readonly(expected, access, buffer, area, path, length):
    buffer.write(b"kept")
    buffer.protect(mmap.PROT_READ)
    with expected:
        access.write(area, bytes(length), path)
    assert buffer.read(4) == b"kept"
    assert access.read(area, 1) == b"k"


@rule("access.rw.process_gone")
@pytest.mark.parametrize("length", [1, 2 * PAGE])
@WRITE
def test_process_is_gone(expected, iommufd, ioas, access, buffer, path, length, write):
    child = iommufd.process.fork()
    Ioas(as_seen_by(iommufd, child), ioas.id).map(buffer, 2 * PAGE, iova=PLACE)
    child.end()
    with expected:
        call(access, PLACE, length, path, write=write)


@rule("access.rw.other_process")
@pytest.mark.parametrize("length", [4, 2 * PAGE])
def test_memory_of_another_process(iommufd, ioas, access, path, length):
    child = iommufd.process.fork()
    own = child.checked("mmap", 0, 2 * PAGE, 3, 0x22, -1, 0)
    Ioas(as_seen_by(iommufd, child), ioas.id).map(own, 2 * PAGE, iova=PLACE)
    access.write(PLACE, PATTERN[:length], path)
    assert child.read(own, length) == PATTERN[:length]
    assert access.read(PLACE, length, path) == PATTERN[:length]


@rule("access.rw.file")
def test_memory_of_a_file(ioas, access, memfd_buffer, path):
    iova = ioas.map_file(memfd_buffer.fd, 3 * PAGE, start=PAGE)
    access.write(iova + 0xFF0, PATTERN[:0x1100], path)
    assert memfd_buffer.read(0x1100, 0x1FF0) == PATTERN[:0x1100]
    assert access.read(iova + 0xFF0, 0x1100, path) == PATTERN[:0x1100]


@rule("access.rw.file_truncated")
def test_file_is_cut_off(expected, ioas, access, buffers, path):
    memory = buffers(2 * PAGE, kind="memfd")
    iova = ioas.map_file(memory.fd, 2 * PAGE)
    memory.process.checked("ftruncate", memory.fd, 0)
    with expected:
        access.read(iova, 1, path)


@rule("access.rw.no_memfd")
def test_file_is_no_memfd(expected, ioas, access, path):
    iova = ioas.map_file(ioas.context.process.open("/dev/null"), PAGE)
    with expected:
        access.read(iova, 1, path)


@rule("access.rw.user_buffer")
@WRITE
def test_own_memory_is_bad(expected, access, area, unmapped, path, write):
    with expected:
        access.rw(area, 8, unmapped - 4, path | write)


@rule("access.rw.user_buffer_order")
def test_own_memory_is_read_before_and_written_after(access, unmapped):
    with raises_errno(EFAULT):
        access.rw(PLACE, 8, unmapped, 1)
    with raises_errno(ENOENT):
        access.rw(PLACE, 8, unmapped, 0)


@rule("access.rw.too_long")
@pytest.mark.parametrize("flags", [0, 1, 2])
def test_range_is_too_long(expected, access, area, flags):
    with expected:
        access.rw(area, (16 << 20) + 1, 0, flags)


@rule("access.rw.flags")
@pytest.mark.parametrize("bit", [1, 17, 31])
def test_unknown_flag(expected, access, area, bit):
    with expected:
        access.read(area, 1, 1 << bit)


@rule("access.rw.syz")
def test_nth_area(expected, ioas, buffer, access, path):
    buffer.write(b"found", 0x1234)
    ioas.map(buffer, PAGE, iova=PLACE)
    ioas.map(buffer.address + PAGE, PAGE, iova=PLACE << 1)
    assert access.read(1 | 0x234 << 32, 5, path | SYZ) == b"found"
    with expected:
        access.read(2, 1, path | SYZ)
