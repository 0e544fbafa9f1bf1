# SPDX-License-Identifier: GPL-2.0-only
"""The file /dev/iommu: ids, modes, and what it is not."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.object import DEVICE
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context


READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


def gives(iommufd: Context, call: str, *args: Any) -> str:
    """Make a system call and return its errno."""
    return errno_name(iommufd.process.syscall(call, *args).errno)


@rule("generic.file.ids_reused")
def test_lowest_free_id_is_given(iommufd, other_objects):
    made = [iommufd.ioas_alloc() for _ in range(4)]
    assert [ioas.id for ioas in made] == [1, 2, 3, 4]
    made[1].destroy()
    assert other_objects.ioas.id == 21
    assert iommufd.ioas_alloc().id == 2


@rule("generic.file.open_mode")
@pytest.mark.parametrize("mode", ["O_RDONLY", "O_WRONLY"])
def test_file_opened_for_less(iommufd, mode):
    iommufd.close()
    iommufd.fd = iommufd.process.open(DEVICE, getattr(os, mode))
    iommufd.ioas_alloc().destroy()


@rule("generic.file.read")
def test_read(expected, iommufd, buffer):
    assert gives(iommufd, "read", iommufd.fd, buffer.address, 8) == expected.result


@rule("generic.file.write")
def test_write(expected, iommufd, buffer):
    assert gives(iommufd, "write", iommufd.fd, buffer.address, 8) == expected.result


@rule("generic.file.seek")
def test_seek(expected, iommufd):
    assert gives(iommufd, "lseek", iommufd.fd, 0, os.SEEK_SET) == expected.result


@rule("generic.file.mmap")
def test_private_mmap(expected, iommufd, page_size):
    got = gives(iommufd, "mmap", 0, page_size, mmap.PROT_READ, mmap.MAP_PRIVATE, iommufd.fd, 0)
    assert got == expected.result


@rule("generic.file.mmap_executable")
def test_executable_mmap(expected, iommufd, page_size):
    protection = READ_WRITE | mmap.PROT_EXEC
    got = gives(iommufd, "mmap", 0, page_size, protection, mmap.MAP_SHARED, iommufd.fd, 0)
    assert got == expected.result


@rule("generic.file.mmap_of_nothing")
@pytest.mark.parametrize("page", [0, 1])
def test_mmap_of_nothing(expected, iommufd, page_size, page):
    where = page * page_size
    got = gives(iommufd, "mmap", 0, page_size, READ_WRITE, mmap.MAP_SHARED, iommufd.fd, where)
    assert got == expected.result
