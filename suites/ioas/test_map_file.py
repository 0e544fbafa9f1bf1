# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_MAP_FILE: memory of a file, mapped without an address in a process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_map, check_refs
from pytest_iommufd.iommufd.ioas import AUTOMATIC_RW
from pytest_iommufd.uapi.spare import spare_flags

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer

PAGE = 0x1000
LAST = (1 << 64) - 1
MOCK_PAGE = 2048
PLACE = 0x4000_0000
O_PATH = 0x20_0000
MFD_ALLOW_SEALING, F_ADD_SEALS, F_SEAL_WRITE = 2, 1033, 8
NO_MEMFD = ("/proc/self/status", "/dev/null", "/dev/iommu", "/dev")


@pytest.fixture
def fd(memfd_buffer: Buffer) -> int:
    """A memfd of sixteen pages."""
    return memfd_buffer.fd


@rule("ioas.map_file.mapped")
@pytest.mark.parametrize(("start", "length"), [(0, 0x1_0000), (0x800, PAGE), (0xF800, 0x800)])
def test_file_is_mapped(mock_device, ioas, memfd_buffer, start, length):
    iova = ioas.map_file(memfd_buffer.fd, length, start=start)
    check_map(mock_device.hwpt, iova, memfd_buffer.address + start, length)
    assert ioas.unmap_all() == length
    check_refs(ioas.context, memfd_buffer, memfd_buffer.size, 0)


@rule("ioas.map_file.fixed")
def test_file_at_a_fixed_iova(mock_device, ioas, memfd_buffer):
    assert ioas.map_file(memfd_buffer.fd, PAGE, iova=PLACE) == PLACE
    check_map(mock_device.hwpt, PLACE, memfd_buffer, PAGE)


@rule("ioas.map_file.automatic_offset")
@pytest.mark.parametrize("start", [0, 1, 0x1801])
def test_automatic_iova_has_the_files_offset(ioas, fd, start):
    assert ioas.map_file(fd, 100, start=start) % PAGE == start % PAGE


@rule("ioas.map_file.closed")
def test_file_may_be_closed(mock_device, ioas, memfd_buffer, process):
    iova = ioas.map_file(memfd_buffer.fd, PAGE)
    process.checked("close", memfd_buffer.fd)
    check_map(mock_device.hwpt, iova, memfd_buffer, PAGE)


@rule("ioas.map_file.later")
def test_file_is_mapped_when_a_device_comes(iommufd, ioas, memfd_buffer, base):
    ioas.map_file(memfd_buffer.fd, memfd_buffer.size, iova=base)
    check_map(iommufd.mock_device(ioas).hwpt, base, memfd_buffer, memfd_buffer.size)


@rule("ioas.map_file.copy")
def test_file_can_be_copied(mock_device, ioas, other_ioas, memfd_buffer):
    source = other_ioas.map_file(memfd_buffer.fd, 2 * PAGE)
    iova = ioas.copy(other_ioas, source + PAGE, PAGE)
    check_map(mock_device.hwpt, iova, memfd_buffer.address + PAGE, PAGE)


@rule("ioas.map_file.flags")
@pytest.mark.parametrize("which", [0, -1], ids=["lowest", "highest"])
def test_unknown_flag(expected, ioas, fd, uapi, which):
    flag = spare_flags(uapi, "iommu_ioas_map_file.flags")[which]
    with expected:
        ioas.map_file(fd, PAGE, flags=6 | flag)


@rule("ioas.map_file.largest")
@pytest.mark.parametrize("field", ["length", "iova"])
def test_largest_numbers(expected, ioas, fd, field):
    with expected:
        ioas.map_file(fd, **({"length": 1, "iova": PLACE} | {field: LAST}))


@rule("ioas.map_file.largest.automatic")
def test_automatic_iova_is_the_last_byte(expected, ioas, fd):
    with expected:
        ioas.map_file(fd, PAGE, iova=LAST, flags=AUTOMATIC_RW)


@rule("ioas.map_file.protection")
@pytest.mark.parametrize("flags", [0, 1], ids=["automatic", "fixed"])
def test_neither_readable_nor_writeable(expected, ioas, fd, flags):
    with expected:
        ioas.map_file(fd, PAGE, flags=flags)


@rule("ioas.map_file.ioas_id")
def test_unknown_ioas(expected, ioas, fd, unknown_id):
    with expected:
        ioas.map_file(fd, PAGE, ioas_id=unknown_id)


@rule("ioas.map_file.ioas_id.other_type")
def test_ioas_of_another_type(expected, ioas, fd, auto_hwpt):
    with expected:
        ioas.map_file(fd, PAGE, ioas_id=auto_hwpt)


@rule("ioas.map_file.length_zero")
@pytest.mark.parametrize("start", [0, LAST])
def test_nothing_to_map(expected, ioas, fd, start):
    with expected:
        ioas.map_file(fd, 0, start=start)


@rule("ioas.map_file.length_huge")
def test_length_cannot_be_rounded_to_pages(expected, ioas, fd):
    with expected:
        ioas.map_file(fd, LAST - 1)


@rule("ioas.map_file.start_wraps")
@pytest.mark.parametrize(("start", "length"), [(LAST - 0xFFE, PAGE), (3, LAST - 1)])
def test_start_wraps(expected, ioas, fd, start, length):
    with expected:
        ioas.map_file(fd, length, start=start)


@rule("ioas.map_file.fd")
@pytest.mark.parametrize("number", [-1, 900])
def test_no_file(expected, ioas, number):
    with expected:
        ioas.map_file(number, PAGE)


@rule("ioas.map_file.path")
def test_file_opened_as_a_path(expected, ioas, fd, process):
    with expected:
        ioas.map_file(process.open(f"/proc/self/fd/{fd}", O_PATH), PAGE)


@rule("ioas.map_file.lazy")
@pytest.mark.parametrize("path", NO_MEMFD)
@pytest.mark.parametrize("start", [1 << 40, LAST - 0xFFF], ids=hex)
def test_without_a_device_any_file_is_taken(ioas, process, path, start):
    ioas.map_file(process.open(path, os.O_RDONLY), PAGE, start=start)


@rule("ioas.map_file.no_memfd")
@pytest.mark.parametrize("path", NO_MEMFD)
def test_with_a_device_it_must_be_a_memfd(expected, mock_device, ioas, process, path):
    assert mock_device.id
    with expected:
        ioas.map_file(process.open(path, os.O_RDONLY), PAGE)
    assert ioas.unmap_all() == 0


@rule("ioas.map_file.no_memfd_later")
def test_device_does_not_come_where_there_is_no_memfd(expected, iommufd, ioas, process, base):
    ioas.map_file(process.open("/dev/null"), PAGE, iova=base)
    with expected:
        iommufd.mock_device(ioas)


@rule("ioas.map_file.beyond_end")
@pytest.mark.parametrize(
    ("start", "length"), [(0x1_0000, PAGE), (0xF000, 2 * PAGE), (1 << 63, 0x800)]
)
def test_with_a_device_the_file_must_be_that_long(expected, mock_device, ioas, fd, start, length):
    assert mock_device.id
    with expected:
        ioas.map_file(fd, length, start=start)
    assert ioas.unmap_all() == 0


@rule("ioas.map_file.truncated")
def test_file_was_truncated(expected, mock_device, ioas, buffers, process):
    assert mock_device.id
    memory = buffers(4 * PAGE, kind="memfd")
    process.checked("ftruncate", memory.fd, 0)
    with expected:
        ioas.map_file(memory.fd, PAGE)


@rule("ioas.map_file.unaligned")
@pytest.mark.parametrize("field", ["start", "length", "iova"])
def test_unaligned_with_a_device(expected, mock_device, ioas, fd, field):
    assert mock_device.id
    given = {"start": 0, "length": PAGE, "iova": PLACE}
    given[field] += MOCK_PAGE // 2
    with expected:
        ioas.map_file(fd, **given)


@rule("ioas.map_file.occupied")
def test_fixed_iova_meets_an_area(expected, ioas, fd, area, page_size):
    with expected:
        ioas.map_file(fd, page_size, iova=area + page_size)


@rule("ioas.map_file.read_only_fd")
def test_descriptor_may_be_read_only(ioas, memfd_buffer, process):
    fd = process.open(f"/proc/self/fd/{memfd_buffer.fd}", os.O_RDONLY)
    iova = ioas.map_file(fd, PAGE)
    ioas.create_access().write(iova, b"changed")
    assert memfd_buffer.read(7) == b"changed"


@rule("ioas.map_file.sealed")
def test_sealed_file(expected, ioas, process):
    process.write(process.arena, b"sealed\0")
    fd = process.checked("memfd_create", process.arena, MFD_ALLOW_SEALING)
    process.checked("ftruncate", fd, PAGE)
    process.checked("fcntl", fd, F_ADD_SEALS, F_SEAL_WRITE)
    with expected:
        iova = ioas.map_file(fd, PAGE)
    if expected.defect:
        ioas.create_access().write(iova, b"changed")
        process.checked("pread64", fd, process.arena, 7, 0)
        assert process.read(process.arena, 7) == b"changed"


@rule("ioas.map_file.unwritable")
def test_struct_cannot_be_written(expected, ioas, fd, unwritable):
    with expected:
        unwritable("IOMMU_IOAS_MAP_FILE", flags=6, ioas_id=ioas, fd=fd, length=PAGE)
    assert ioas.unmap_all() == PAGE
