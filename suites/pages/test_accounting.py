# SPDX-License-Identifier: GPL-2.0-only
"""Pinned pages are counted, for the user or for the process's memory, and limited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import Ioas
from pytest_iommufd.iommufd.accounting import as_seen_by, counted, limit_memlock
from pytest_iommufd.iommufd.checks import check_refs

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context
    from pytest_iommufd.machine import Process

PLACE = 0x4000_0000
PAGE = 0x1000


@pytest.fixture
def space(mode: int, unprivileged: None, iommufd: Context) -> Ioas:
    """An IOAS of a process without CAP_IPC_LOCK, in each mode, with a mock device."""
    assert mode in (0, 1)
    assert unprivileged is None
    made = iommufd.ioas_alloc()
    iommufd.mock_device(made)
    return made


@pytest.fixture
def lazy(mode: int, unprivileged: None, iommufd: Context) -> Ioas:
    """An IOAS of a process without CAP_IPC_LOCK, in each mode, without a device."""
    assert mode in (0, 1)
    assert unprivileged is None
    return iommufd.ioas_alloc()


def check_counts(process: Process, mode: int, pages: int) -> None:
    """Check what /proc/PID/status says; VmLck is counted in mode mm only."""
    assert counted(process, "VmPin") == pages
    assert counted(process, "VmLck") == pages * mode


@rule("pages.account.mapped")
def test_pinned_pages_count(space, buffer, process, mode):
    iova = space.map(buffer)
    check_counts(process, mode, 16)
    space.map(buffer.address + 0x800, PAGE)
    check_counts(process, mode, 18)
    space.unmap(iova, buffer.size)
    check_counts(process, mode, 2)
    space.unmap_all()
    check_counts(process, mode, 0)


@rule("pages.account.privileged")
def test_pages_of_the_privileged_count_for_nobody(mode, iommufd, buffer, process):
    limit_memlock(process, 1)
    ioas = iommufd.ioas_alloc()
    iommufd.mock_device(ioas)
    ioas.map(buffer)
    assert counted(process, "VmPin") == 16
    assert counted(process, "VmLck") == 0 * mode
    ioas.unmap_all()
    assert counted(process, "VmPin") == 0


@rule("pages.account.lazy")
def test_pages_count_when_they_are_pinned(lazy, buffer, process, mode, iommufd):
    lazy.map(buffer, iova=PLACE)
    check_counts(process, mode, 0)
    device = iommufd.mock_device(lazy)
    check_counts(process, mode, 16)
    device.destroy()
    check_counts(process, mode, 0)


@rule("pages.account.access")
def test_pages_of_accesses_count(lazy, buffer, process, mode, iommufd):
    lazy.map(buffer, iova=PLACE)
    access = lazy.create_access(pin=True)
    items = [access.pin(PLACE, length, buffer) for length in (4 * PAGE, 2 * PAGE)]
    check_counts(process, mode, 4)
    device = iommufd.mock_device(lazy)
    check_counts(process, mode, 16)
    device.destroy()
    check_counts(process, mode, 4)
    access.unpin(items[0])
    check_counts(process, mode, 2)
    access.close()
    check_counts(process, mode, 0)


@rule("pages.account.once")
def test_copied_pages_count_once(space, buffer, process, mode, iommufd):
    iova = space.map(buffer)
    other = iommufd.ioas_alloc()
    iommufd.mock_device(other)
    other.copy(space, iova, buffer.size)
    check_counts(process, mode, 16)
    space.unmap_all()
    check_counts(process, mode, 16)
    other.unmap_all()
    check_counts(process, mode, 0)


@rule("pages.account.rw")
def test_copying_bytes_counts_nothing(lazy, buffer, process, mode):
    iova = lazy.map(buffer)
    lazy.create_access().read(iova, buffer.size, 4)
    check_counts(process, mode, 0)


@rule("pages.account.huge")
def test_huge_pages_count_as_small_ones(space, huge_buffer, process, mode):
    limit_memlock(process, 1024)
    space.map(huge_buffer)
    check_counts(process, mode, 1024)
    space.unmap_all()
    check_counts(process, mode, 0)


@rule("pages.account.file")
def test_pages_of_a_file_count(space, memfd_buffer, process, mode):
    space.map_file(memfd_buffer.fd, 4 * PAGE, start=0x800)
    check_counts(process, mode, 5)
    space.unmap_all()
    check_counts(process, mode, 0)


@rule("pages.account.who_maps")
def test_privileges_are_of_who_maps(mode, iommufd, buffer, process, request):
    ioas = iommufd.ioas_alloc()
    ioas.map(buffer, iova=PLACE)
    request.getfixturevalue("unprivileged")
    limit_memlock(process, 1)
    iommufd.mock_device(ioas)
    assert counted(process, "VmPin") == 16
    assert counted(process, "VmLck") == 0 * mode


@rule("pages.limit.map")
@pytest.mark.parametrize("offset", [0, 0x800], ids=hex)
def test_map_beyond_the_limit(expected, space, buffer, process, mode, offset):
    limit_memlock(process, 4)
    with expected:
        space.map(buffer.address + offset, 4 * PAGE + 0x800)
    check_counts(process, mode, 0)
    check_refs(space.context, buffer, buffer.size, 0)
    assert space.unmap_all() == 0


@rule("pages.limit.map_within")
def test_map_up_to_the_limit(space, buffer, process, mode):
    limit_memlock(process, 4)
    space.map(buffer, 4 * PAGE)
    check_counts(process, mode, 4)


@rule("pages.limit.sum")
def test_all_maps_count_together(expected, space, buffer, process, mode):
    limit_memlock(process, 4)
    iova = space.map(buffer, 3 * PAGE)
    with expected:
        space.map(buffer, 2 * PAGE)
    check_counts(process, mode, 3)
    space.unmap(iova, 3 * PAGE)
    space.map(buffer, 4 * PAGE)


@rule("pages.limit.attach")
def test_attach_beyond_the_limit(expected, lazy, buffer, process, iommufd, mode):
    limit_memlock(process, 4)
    for number in range(3):
        lazy.map(buffer.address + 2 * number * PAGE, 2 * PAGE, iova=PLACE + 4 * number * PAGE)
    with expected:
        iommufd.mock_device(lazy)
    check_counts(process, mode, 0)
    check_refs(iommufd, buffer, buffer.size, 0)
    lazy.unmap(PLACE, 2 * PAGE)
    iommufd.mock_device(lazy)


@rule("pages.limit.access")
def test_access_beyond_the_limit(expected, lazy, buffer, process, mode):
    limit_memlock(process, 4)
    iova = lazy.map(buffer)
    access = lazy.create_access(pin=True)
    with expected:
        access.pin(iova, 5 * PAGE)
    check_counts(process, mode, 0)
    check_refs(lazy.context, buffer, buffer.size, 0)
    access.pin(iova, 4 * PAGE)


@rule("pages.limit.file")
def test_file_beyond_the_limit(expected, space, memfd_buffer, process, mode):
    limit_memlock(process, 4)
    with expected:
        space.map_file(memfd_buffer.fd, 5 * PAGE)
    check_counts(process, mode, 0)
    check_refs(space.context, memfd_buffer, memfd_buffer.size, 0)


@rule("pages.limit.copy")
def test_copy_beyond_the_limit(expected, space, buffer, process, iommufd):
    limit_memlock(process, 4)
    source = iommufd.ioas_alloc()
    iova = source.map(buffer)
    with expected:
        space.copy(source, iova, 5 * PAGE)
    space.copy(source, iova, 4 * PAGE)


@rule("pages.limit.lowered")
def test_limit_of_the_moment_counts(space, buffer, process):
    limit_memlock(process, 2)
    space.map(buffer, PAGE)
    limit_memlock(process, 1)
    assert space.unmap_all() == PAGE
    space.map(buffer, PAGE)


@rule("pages.limit.two_processes")
def test_processes_of_a_user_count_together_or_apart(space, buffers, process, mode):
    memory = buffers(4 * PAGE)
    limit_memlock(process, 4)
    child = process.fork()
    space.map(memory, 3 * PAGE)
    result = child_maps(space, child, memory, 2)
    assert result == (12 if mode == 0 else 0)
    assert child_maps(space, child, memory, 1) == 0


def child_maps(ioas: Ioas, child: Process, memory: Buffer, pages: int) -> int:
    """Have a fork map pages; returns the errno."""
    try:
        Ioas(as_seen_by(ioas.context, child), ioas.id).map(memory, pages * PAGE)
    except OSError as error:
        return error.errno or 0
    return 0


@rule("pages.limit.who_mapped")
def test_limit_is_of_who_mapped(expected, lazy, buffer, process, iommufd):
    child = process.fork()
    limit_memlock(child, 4)
    theirs = Ioas(as_seen_by(iommufd, child), lazy.id)
    theirs.map(buffer, 5 * PAGE, iova=PLACE)
    with expected:
        iommufd.mock_device(lazy)
    limit_memlock(child, 5)
    iommufd.mock_device(lazy)
    assert [counted(who, "VmPin") for who in (process, child)] == [0, 5]


@rule("pages.account.process_gone")
def test_pages_of_a_process_that_is_gone_are_given_back(space, buffer, process, mode):
    limit_memlock(process, 4)
    child = process.fork()
    assert child_maps(space, child, buffer, 4) == 0
    child.end()
    assert space.unmap_all() == 4 * PAGE
    space.map(buffer, 4 * PAGE)
    check_counts(process, mode, 4)
