# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_CHANGE_PROCESS: who pays for the pages from now on."""

from __future__ import annotations

from errno import EINVAL, ENOMEM
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Ioas
from pytest_iommufd.iommufd.accounting import as_seen_by, counted, limit_memlock
from pytest_iommufd.iommufd.checks import check_map

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

PAGE = 0x1000
CHANGE = "IOMMU_IOAS_CHANGE_PROCESS"
PAGES = 4
SETUID = 105  # of x86-64
NOBODY = 65534


@pytest.fixture(params=[0, 1], ids=["user", "mm"])
def mode(iommufd: Context, uapi: Uapi, request: pytest.FixtureRequest) -> int:
    """What pinned pages are counted for: the user, or the process's memory."""
    option, op = uapi.IOMMU_OPTION_RLIMIT_MODE, uapi.IOMMU_OPTION_OP_SET
    iommufd.ioctl("IOMMU_OPTION", option_id=option, op=op, val64=request.param)
    return int(request.param)


@pytest.fixture
def pinned(
    mode: int, iommufd: Context, memfd_buffer: Buffer, base: int, request: pytest.FixtureRequest
) -> Ioas:
    """An IOAS with four pages of a file, pinned for a mock device and counted."""
    assert mode in (0, 1)
    ioas = iommufd.ioas_alloc()
    iommufd.mock_device(ioas)
    request.getfixturevalue("without_ipc_lock")
    ioas.map_file(memfd_buffer.fd, PAGES * PAGE, iova=base)
    return ioas


@rule("ioas.change_process.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_reserved_field(expected, iommufd, bit):
    with expected:
        iommufd.ioctl(CHANGE, __reserved=1 << bit)


@rule("ioas.change_process.empty")
def test_nothing_is_mapped(iommufd):
    iommufd.ioctl(CHANGE)
    iommufd.ioas_alloc()
    iommufd.ioctl(CHANGE)


@rule("ioas.change_process.files")
def test_only_files_are_mapped(iommufd, ioas, other_ioas, memfd_buffer):
    iova = ioas.map_file(memfd_buffer.fd, 2 * PAGE)
    other_ioas.copy(ioas, iova, PAGE)
    iommufd.ioctl(CHANGE)
    iommufd.ioctl(CHANGE)


@rule("ioas.change_process.memory")
@pytest.mark.parametrize("where", ["ioas", "other_ioas"])
def test_memory_of_a_process_is_mapped(expected, request, iommufd, memfd_buffer, where):
    ioases: dict[str, Ioas] = {n: request.getfixturevalue(n) for n in ("ioas", "other_ioas")}
    for ioas in ioases.values():
        ioas.map_file(memfd_buffer.fd, PAGE)
    iova = ioases[where].map(memfd_buffer)
    with expected:
        iommufd.ioctl(CHANGE)
    ioases[where].unmap(iova, memfd_buffer.size)
    iommufd.ioctl(CHANGE)


@rule("ioas.change_process.same")
def test_same_process(pinned, process, mode):
    pinned.context.ioctl(CHANGE)
    assert counted(process, "VmPin") == PAGES
    assert counted(process, "VmLck") == PAGES * mode


@rule("ioas.change_process.moves")
def test_other_process_pays(pinned, process, mode):
    child = process.fork()
    as_seen_by(pinned.context, child).ioctl(CHANGE)
    assert [counted(who, "VmPin") for who in (process, child)] == [0, PAGES]
    assert [counted(who, "VmLck") for who in (process, child)] == [0, PAGES * mode]


@rule("ioas.change_process.unmapped_later")
def test_other_process_is_paid_back(pinned, process):
    child = process.fork()
    as_seen_by(pinned.context, child).ioctl(CHANGE)
    pinned.unmap_all()
    for who in (process, child):
        assert counted(who, "VmPin") == counted(who, "VmLck") == 0


@rule("ioas.change_process.copies")
def test_copied_pages_are_paid_once(pinned, iommufd, process, base):
    other = iommufd.ioas_alloc()
    iova = iommufd.ioas_alloc().copy(pinned, base, PAGE)
    assert iova
    other.copy(pinned, base, 2 * PAGE)
    child = process.fork()
    as_seen_by(pinned.context, child).ioctl(CHANGE)
    assert [counted(who, "VmPin") for who in (process, child)] == [0, PAGES]


@rule("ioas.change_process.back")
def test_there_and_back(pinned, process, mode):
    child = process.fork()
    as_seen_by(pinned.context, child).ioctl(CHANGE)
    pinned.context.ioctl(CHANGE)
    assert [counted(who, "VmPin") for who in (process, child)] == [PAGES, 0]
    assert [counted(who, "VmLck") for who in (process, child)] == [PAGES * mode, 0]


@rule("ioas.change_process.old_process_gone")
def test_device_keeps_the_pages_of_a_process_that_is_gone(
    iommufd, mock_device, ioas, memfd_buffer, process
):
    child = process.fork()
    Ioas(as_seen_by(iommufd, child), ioas.id).map_file(memfd_buffer.fd, PAGE, iova=1 << 30)
    child.end()
    iommufd.ioctl(CHANGE)
    check_map(mock_device.hwpt, 1 << 30, memfd_buffer, PAGE)


def check_pinned(old: Process, new: Process, expected: tuple[int, int]) -> None:
    found = (counted(old, "VmPin"), counted(new, "VmPin"))
    what = "VmPin is {} pages of the old process and {} of the new"
    assert found == expected, what.format(*found)


@rule("ioas.change_process.uncounted")
def test_what_was_pinned_with_ipc_lock_is_moved(
    expected, iommufd, mock_device, ioas, memfd_buffer, process
):
    assert mock_device.id
    ioas.map_file(memfd_buffer.fd, PAGES * PAGE)
    child = process.fork()
    with expected:
        as_seen_by(iommufd, child).ioctl(CHANGE)
    check_pinned(process, child, (0, PAGES))


@rule("ioas.change_process.uncounted.unmapped_later")
def test_what_was_pinned_with_ipc_lock_is_paid_back(
    expected, iommufd, mock_device, ioas, memfd_buffer, process
):
    assert mock_device.id
    ioas.map_file(memfd_buffer.fd, PAGES * PAGE)
    child = process.fork()
    as_seen_by(iommufd, child).ioctl(CHANGE)
    with expected:
        ioas.unmap_all()
    check_pinned(process, child, (0, 0))


@rule("ioas.change_process.limit")
@pytest.mark.parametrize("short", [False, True], ids=["enough", "one_short"])
def test_other_process_must_be_allowed_as_much(pinned, process, mode, short):
    child = process.fork()
    # for a user, old and new pages count together
    limit_memlock(child, (PAGES if mode else 2 * PAGES) - short)
    context = as_seen_by(pinned.context, child)
    if not short:
        context.ioctl(CHANGE)
        assert counted(child, "VmPin") == PAGES
        return
    with raises_errno(ENOMEM):
        context.ioctl(CHANGE)
    assert [counted(who, "VmPin") for who in (process, child)] == [PAGES, 0]
    assert [counted(who, "VmLck") for who in (process, child)] == [PAGES * mode, 0]


@rule("ioas.change_process.limit_restored")
def test_who_has_paid_is_paid_back(pinned, process):
    child = process.fork()
    limit_memlock(child, 1)
    with raises_errno(ENOMEM):
        as_seen_by(pinned.context, child).ioctl(CHANGE)
    assert pinned.unmap_all() == PAGES * PAGE
    assert counted(process, "VmPin") == counted(process, "VmLck") == 0


@rule("ioas.change_process.other_user")
@pytest.mark.no_fail_nth("only root may have its calls fail")
def test_pages_are_of_the_new_user(iommufd, without_ipc_lock, process, memfd_buffer):
    assert without_ipc_lock is None
    ioas = iommufd.ioas_alloc()
    iommufd.mock_device(ioas)
    ioas.map_file(memfd_buffer.fd, PAGES * PAGE)
    child = process.fork()
    limit_memlock(child, PAGES)
    theirs: dict[str, Any] = {
        "ioas_id": ioas,
        "flags": 6,
        "fd": memfd_buffer.fd,
        "length": PAGES * PAGE,
    }
    with raises_errno(ENOMEM):
        as_seen_by(iommufd, child).ioctl("IOMMU_IOAS_MAP_FILE", **theirs)
    process.checked(SETUID, NOBODY)
    iommufd.ioctl(CHANGE)
    as_seen_by(iommufd, child).ioctl("IOMMU_IOAS_MAP_FILE", **theirs)
    assert [counted(who, "VmPin") for who in (process, child)] == [PAGES, PAGES]


@rule("ioas.change_process.refused")
def test_refused_change_keeps_the_pages(pinned, process, mode, memfd_buffer, buffers):
    iova = pinned.map(buffers(PAGE))
    child = process.fork()
    with raises_errno(EINVAL):
        as_seen_by(pinned.context, child).ioctl(CHANGE)
    assert counted(process, "VmPin") == PAGES + 1
    assert counted(process, "VmLck") == (PAGES + 1) * mode
    pinned.unmap(iova, PAGE)
    assert memfd_buffer.fd >= 0
