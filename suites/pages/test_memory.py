# SPDX-License-Identifier: GPL-2.0-only
"""Memory of processes that come and go, private memory, and memory that is only partly there."""

from __future__ import annotations

from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Ioas
from pytest_iommufd.iommufd.accounting import as_seen_by
from pytest_iommufd.iommufd.checks import check_map, check_refs

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.machine import Process

PLACE = 0x4000_0000
PAGE = 0x1000
PRIVATE, SHARED, ANONYMOUS = 2, 1, 0x20
SIZE = 4 * PAGE


@pytest.fixture
def child(process: Process) -> Process:
    """A fork of the process."""
    return process.fork()


@pytest.fixture
def childs_memory(iommufd: Context, child: Process, ioas: Ioas) -> int:
    """The child's own memory, which it has mapped into the IOAS, at the same address."""
    own = child.checked("mmap", 0, SIZE, 3, PRIVATE | ANONYMOUS, -1, 0)
    child.write(own, b"child" * 100)
    Ioas(as_seen_by(iommufd, child), ioas.id).map(own, SIZE, iova=PLACE)
    return own


@rule("pages.process.present")
def test_device_gets_the_memory_of_another_process(iommufd, ioas, child, childs_memory):
    device = iommufd.mock_device(ioas)
    theirs = as_seen_by(iommufd, child)
    given = {"iova": PLACE, "length": SIZE, "uptr": childs_memory}
    theirs.test("md_check_map", device.hwpt, check_map=given)
    check_refs(theirs, childs_memory, SIZE, 1)
    assert ioas.create_access().read(PLACE, 5, 4) == b"child"


@rule("pages.process.gone_before_the_device")
def test_device_does_not_come_when_the_process_is_gone(
    expected, iommufd, ioas, child, childs_memory
):
    child.end()
    with expected:
        iommufd.mock_device(ioas)
    assert childs_memory
    assert ioas.unmap_all() == SIZE


@rule("pages.process.gone_after_the_device")
def test_device_keeps_the_memory_of_a_process_that_is_gone(
    iommufd, mock_device, ioas, child, childs_memory
):
    child.end()
    assert childs_memory
    second = iommufd.hwpt_alloc(mock_device, ioas)
    assert ioas.create_access().read(PLACE, 5, 4) == b"child"
    second.destroy()
    assert ioas.create_access().read(PLACE, SIZE)[:5] == b"child"


@rule("pages.process.copy_gone")
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
def test_copying_memory_of_a_process_that_is_gone(
    iommufd, ioas, other_ioas, child, childs_memory, device
):
    child.end()
    assert childs_memory
    if not device:
        other_ioas.copy(ioas, PLACE, SIZE)
        return
    iommufd.mock_device(other_ioas)
    with raises_errno(EFAULT):
        other_ioas.copy(ioas, PLACE, SIZE)
    assert other_ioas.unmap_all() == 0


@rule("pages.process.own_space")
def test_address_is_of_the_process_that_mapped_it(iommufd, ioas, child, childs_memory, process):
    flags = PRIVATE | ANONYMOUS | 0x10
    process.checked("mmap", childs_memory, SIZE, 3, flags, -1, 0)
    process.write(childs_memory, b"parent")
    device = iommufd.mock_device(ioas)
    assert ioas.create_access().read(PLACE, 5) == b"child"
    with raises_errno(EINVAL):
        check_map(device.hwpt, PLACE, childs_memory, PAGE)
    assert child.pid


@rule("pages.memory.private_file")
@pytest.mark.parametrize("touched", [False, True])
def test_writing_does_not_part_process_and_device(
    mock_device, ioas, memfd_buffer, process, touched
):
    own = process.checked("mmap", 0, SIZE, 3, PRIVATE, memfd_buffer.fd, 0)
    if touched:
        process.read(own, 1)
    iova = ioas.map(own, SIZE, flags=4)
    check_map(mock_device.hwpt, iova, own, SIZE)
    process.write(own, b"mine")
    check_map(mock_device.hwpt, iova, own, SIZE)
    assert memfd_buffer.read(4) == bytes(4)


@rule("pages.memory.untouched")
@pytest.mark.parametrize("flags", [2, 4])
def test_untouched_memory(mock_device, ioas, process, flags):
    own = process.checked("mmap", 0, SIZE, 3, PRIVATE | ANONYMOUS, -1, 0)
    iova = ioas.map(own, SIZE, flags=flags)
    process.write(own, b"mine")
    check_map(mock_device.hwpt, iova, own, SIZE)


@rule("pages.memory.forked")
def test_pages_stay_with_the_process_that_mapped_them(mock_device, ioas, process):
    own = process.checked("mmap", 0, SIZE, 3, PRIVATE | ANONYMOUS, -1, 0)
    iova = ioas.map(own, SIZE)
    child = process.fork()
    child.write(own, b"child")
    process.write(own, b"mine")
    check_map(mock_device.hwpt, iova, own, SIZE)
    assert child.read(own, 5) == b"child"


@rule("pages.memory.partly")
@pytest.mark.parametrize("gone", [0, 3])
def test_memory_that_is_only_partly_there(expected, mock_device, ioas, buffers, gone):
    memory = buffers(SIZE)
    memory.unmap(gone * PAGE, PAGE)
    with expected:
        ioas.map(memory)
    for number in {0, 1, 2, 3} - {gone}:
        check_refs(ioas.context, memory.address + number * PAGE, PAGE, 0)
    assert mock_device.id


@rule("pages.memory.truncated")
def test_mapped_file_is_cut_off(expected, mock_device, ioas, buffers, process):
    memory = buffers(SIZE, kind="memfd")
    process.checked("ftruncate", memory.fd, PAGE)
    with expected:
        ioas.map(memory)
    iova = ioas.map(memory, PAGE)
    check_map(mock_device.hwpt, iova, memory, PAGE)


@rule("pages.memory.pinned_and_unmapped")
def test_device_keeps_memory_that_is_unmapped(mock_device, ioas, memfd_buffer, process):
    own = process.checked("mmap", 0, SIZE, 3, SHARED, memfd_buffer.fd, 0)
    iova = ioas.map(own, SIZE)
    process.checked("munmap", own, SIZE)
    check_map(mock_device.hwpt, iova, memfd_buffer, SIZE)


@rule("pages.memory.several_mappings")
def test_memory_across_mappings(mock_device, ioas, buffers, process):
    memory = buffers(SIZE)
    process.checked("mmap", memory.address + PAGE, PAGE, 3, PRIVATE | ANONYMOUS | 0x10, -1, 0)
    iova = ioas.map(memory)
    check_map(mock_device.hwpt, iova, memory, SIZE)
