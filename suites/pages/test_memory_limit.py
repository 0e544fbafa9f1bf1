# SPDX-License-Identifier: GPL-2.0-only
"""SET_TEMP_MEMORY_LIMIT: with little memory for lists of pages all is done in small steps."""

from __future__ import annotations

from errno import EFAULT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map, check_refs

PLACE = 0x4000_0000
PAGE = 0x1000
# one page, two, some
LIMITS = pytest.mark.parametrize("size", [16, 24, 100])


@rule("pages.temp_limit.too_small")
@pytest.mark.parametrize("size", [0, 1, 11])
def test_no_room_for_a_page(expected, memory_limit, size):
    with expected:
        memory_limit(size)


@rule("pages.temp_limit.map")
@LIMITS
def test_map_in_small_steps(memory_limit, mock_device, iommufd, ioas, buffer, size):
    memory_limit(size)
    iova = ioas.map(buffer.address + 0x800, buffer.size - PAGE)
    second = iommufd.hwpt_alloc(mock_device, ioas)
    for hwpt in (mock_device.hwpt, second):
        check_map(hwpt, iova, buffer.address + 0x800, buffer.size - PAGE)
    check_refs(iommufd, buffer, buffer.size, 1)
    second.destroy()
    ioas.unmap_all()
    check_refs(iommufd, buffer, buffer.size, 0)


@rule("pages.temp_limit.map_file")
@LIMITS
def test_map_a_file_in_small_steps(memory_limit, mock_device, ioas, memfd_buffer, size):
    memory_limit(size)
    iova = ioas.map_file(memfd_buffer.fd, memfd_buffer.size)
    check_map(mock_device.hwpt, iova, memfd_buffer, memfd_buffer.size)
    ioas.unmap_all()
    check_refs(ioas.context, memfd_buffer, memfd_buffer.size, 0)


@rule("pages.temp_limit.huge")
@LIMITS
def test_map_huge_pages_in_small_steps(memory_limit, mock_device, ioas, huge_buffer, size):
    memory_limit(size)
    iova = ioas.map(huge_buffer)
    check_map(mock_device.hwpt, iova, huge_buffer, huge_buffer.size)
    assert ioas.unmap_all() == huge_buffer.size


@rule("pages.temp_limit.fails")
@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("gone", [0, 1, 15])
def test_failure_between_two_steps(memory_limit, iommufd, mock_device, ioas, buffer, size, gone):
    memory_limit(size)
    iommufd.hwpt_alloc(mock_device, ioas)
    buffer.protect(0, gone * PAGE, PAGE)
    with raises_errno(EFAULT):
        ioas.map(buffer, iova=PLACE)
    buffer.protect(3)
    check_refs(iommufd, buffer, buffer.size, 0)
    ioas.map(buffer, iova=PLACE)
    check_map(mock_device.hwpt, PLACE, buffer, buffer.size)


@rule("pages.temp_limit.attach_fails")
@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("gone", [0, 1, 15])
def test_failure_of_a_device_between_two_steps(memory_limit, iommufd, ioas, buffer, size, gone):
    memory_limit(size)
    ioas.map(buffer, iova=PLACE)
    buffer.protect(0, gone * PAGE, PAGE)
    with raises_errno(EFAULT):
        iommufd.mock_device(ioas)
    buffer.protect(3)
    check_refs(iommufd, buffer, buffer.size, 0)
    check_map(iommufd.mock_device(ioas).hwpt, PLACE, buffer, buffer.size)


@rule("pages.temp_limit.access")
@LIMITS
def test_access_in_small_steps(memory_limit, mock_device, ioas, buffer, size):
    memory_limit(size)
    iova = ioas.map(buffer)
    access = ioas.create_access(pin=True)
    access.pin(iova + 3 * PAGE, 5 * PAGE, buffer.address + 3 * PAGE)
    mock_device.destroy()
    check_refs(ioas.context, buffer.address + 3 * PAGE, 5 * PAGE, 1)
    check_refs(ioas.context, buffer.address + 8 * PAGE, 8 * PAGE, 0)
    data = bytes(range(256)) * 256
    access.write(iova, data, 4)
    assert access.read(iova, len(data), 4) == data
    access.close()
    check_refs(ioas.context, buffer, buffer.size, 0)
