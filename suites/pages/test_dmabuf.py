# SPDX-License-Identifier: GPL-2.0-only
"""dma-bufs of iommufd_test: memory of a device, mapped by its descriptor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context

PAGE = 0x1000
SIZE = 4 * PAGE
PLACE = 0x4000_0000


@pytest.fixture
def fd(dmabuf: Callable[[int], int]) -> int:
    """A dma-buf of four pages."""
    return dmabuf(SIZE)


@pytest.fixture
def revoke(iommufd: Context) -> Callable[..., None]:
    """Takes a dma-buf's memory away, or gives it back with 0."""

    def make(fd: int, revoked: int = 1) -> None:
        iommufd.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": fd, "revoked": revoked})

    return make


@rule("pages.dmabuf.get")
def test_descriptor_is_of_a_dmabuf(fd, process):
    process.write(process.arena, f"/proc/self/fd/{fd}\0".encode())
    length = process.checked("readlinkat", -100, process.arena, process.arena + 100, 100)
    assert process.read(process.arena + 100, length).startswith(b"/dmabuf:")


@rule("pages.dmabuf.get_length")
@pytest.mark.parametrize("length", [0, (2 << 20) + 1, 0xFFFF_FFFF], ids=hex)
def test_length_of_a_dmabuf(expected, dmabuf, length):
    with expected:
        dmabuf(length)


@rule("pages.dmabuf.no_descriptor")
def test_no_descriptor_is_free(expected, iommufd, no_free_fd):
    no_free_fd()
    with expected:
        iommufd.test("dmabuf_get", dmabuf_get={"length": SIZE})


@rule("pages.dmabuf.map")
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
@pytest.mark.parametrize(("start", "length"), [(0, SIZE), (0x800, PAGE)])
def test_map(request, ioas, fd, start, length, device):
    if device:
        request.getfixturevalue("mock_device")
    iova = ioas.map_file(fd, length, start=start)
    assert ioas.unmap(iova, length) == length


@rule("pages.dmabuf.beyond")
@pytest.mark.parametrize(("start", "length"), [(0, SIZE + 1), (1, SIZE), (SIZE, PAGE)])
def test_map_beyond_the_end(expected, ioas, fd, start, length):
    with expected:
        ioas.map_file(fd, length, start=start)


@rule("pages.dmabuf.length_zero")
def test_map_nothing(expected, ioas, fd):
    with expected:
        ioas.map_file(fd, 0)


@rule("pages.dmabuf.attach")
def test_device_comes_and_goes(iommufd, ioas, fd):
    ioas.map_file(fd, SIZE, iova=PLACE)
    first = iommufd.mock_device(ioas)
    second = iommufd.hwpt_alloc(first, ioas)
    second.destroy()
    first.destroy()
    assert ioas.unmap_all() == SIZE


@rule("pages.dmabuf.access")
@pytest.mark.parametrize("how", ["read", "slow", "write", "pin"])
def test_access(expected, ioas, fd, how):
    iova = ioas.map_file(fd, SIZE)
    access = ioas.create_access(pin=True)
    with expected:
        if how == "pin":
            access.pin(iova, PAGE)
        elif how == "write":
            access.write(iova, b"x")
        else:
            access.read(iova, 1, 4 * (how == "slow"))


@rule("pages.dmabuf.copy")
def test_copy(mock_device, ioas, iommufd, fd):
    source = iommufd.ioas_alloc()
    iova = source.map_file(fd, SIZE)
    ioas.copy(source, iova + PAGE, PAGE)
    source.destroy()
    assert mock_device.id
    assert ioas.unmap_all() == PAGE


@rule("pages.dmabuf.change_process")
def test_change_process(expected, iommufd, ioas, fd):
    ioas.map_file(fd, SIZE)
    with expected:
        iommufd.ioctl("IOMMU_IOAS_CHANGE_PROCESS")


@rule("pages.dmabuf.revoked")
def test_map_what_was_taken_away(expected, ioas, fd, revoke):
    revoke(fd)
    with expected:
        ioas.map_file(fd, SIZE)
    revoke(fd, 0)
    ioas.map_file(fd, SIZE)


@rule("pages.dmabuf.revoked_and_beyond")
def test_map_too_much_of_what_was_taken_away(expected, ioas, fd, revoke):
    revoke(fd)
    with expected:
        ioas.map_file(fd, SIZE + PAGE)


@rule("pages.dmabuf.revoked_later")
def test_what_is_mapped_is_taken_away(iommufd, mock_device, ioas, fd, revoke):
    ioas.map_file(fd, SIZE, iova=PLACE)
    revoke(fd)
    iommufd.hwpt_alloc(mock_device, ioas).destroy()
    iommufd.ioas_alloc().copy(ioas, PLACE, SIZE)
    revoke(fd, 0)
    assert ioas.unmap_all() == SIZE
    ioas.map_file(fd, SIZE, iova=PLACE)


@rule("pages.dmabuf.revoke_closed")
def test_revoke_of_no_descriptor(expected, revoke):
    with expected:
        revoke(900)


@rule("pages.dmabuf.revoke_other")
def test_revoke_of_another_file(expected, iommufd, revoke):
    with expected:
        revoke(iommufd.fd)
