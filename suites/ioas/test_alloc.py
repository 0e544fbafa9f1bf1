# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_ALLOC, and IOMMU_DESTROY of what it makes."""

from __future__ import annotations

from errno import ENOENT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.uapi.spare import spare_flags

GARBAGE = 0x1234_5678


@rule("ioas.alloc.flags")
@pytest.mark.parametrize("which", [0, -1], ids=["lowest", "highest"])
def test_alloc_with_a_flag(expected, iommufd, uapi, which):
    flag = spare_flags(uapi, "iommu_ioas_alloc.flags")[which]
    with expected:
        iommufd.ioas_alloc(flags=flag)


@rule("ioas.alloc.out_id_overwritten")
def test_what_the_id_was_before(iommufd):
    made = iommufd.ioas_alloc(out_ioas_id=GARBAGE)
    assert made.id != GARBAGE
    made.destroy()


@rule("ioas.alloc.out_id_kept")
def test_failure_leaves_the_id(expected, iommufd, uapi):
    flag = spare_flags(uapi, "iommu_ioas_alloc.flags")[0]
    with expected:
        iommufd.ioas_alloc(flags=flag, out_ioas_id=GARBAGE)
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.out_ioas_id == GARBAGE


@rule("ioas.alloc.apart")
def test_two_are_apart(iommufd, buffer, page_size):
    one, other = iommufd.ioas_alloc(), iommufd.ioas_alloc()
    one.map(buffer, iova=page_size)
    other.map(buffer, iova=page_size)
    one.destroy()
    assert other.unmap_all() == buffer.size


@rule("ioas.alloc.unwritable")
def test_id_cannot_be_written(expected, iommufd, unwritable, uapi):
    with expected:
        unwritable("IOMMU_IOAS_ALLOC")
    # only possible while there is no object
    mode = uapi.IOMMU_OPTION_RLIMIT_MODE
    iommufd.ioctl("IOMMU_OPTION", option_id=mode, op=uapi.IOMMU_OPTION_OP_SET, val64=0)


@rule("ioas.destroy.empty")
def test_destroyed_is_gone(iommufd, ioas):
    ioas.destroy()
    with raises_errno(ENOENT):
        iommufd.destroy(ioas)


@rule("ioas.destroy.areas")
def test_destroy_unmaps(ioas, buffer, page_size):
    for number in range(1, 11):
        ioas.map(buffer, page_size, iova=number * 16 * page_size)
    ioas.destroy()


@rule("ioas.destroy.areas_left_for_close")
def test_close_unmaps(mock_device, ioas, buffer, page_size, base):
    assert mock_device.id
    for number in range(10):
        ioas.map(buffer, page_size, iova=base + number * 16 * page_size)


@rule("ioas.destroy.device")
@pytest.mark.parametrize("areas", [0, 2])
def test_device_holds_its_ioas(expected, mock_devices, ioas, buffer, areas):
    devices = [mock_devices(), mock_devices()]
    for _ in range(areas):
        ioas.map(buffer)
    for device in devices:
        with expected:
            ioas.destroy()
        device.destroy()
    ioas.destroy()


@rule("ioas.destroy.device_refused")
def test_refused_destroy_changes_nothing(expected, mock_device, ioas, buffer):
    ioas.map(buffer)
    with expected:
        ioas.destroy()
    assert ioas.unmap_all() == buffer.size
    mock_device.destroy()
