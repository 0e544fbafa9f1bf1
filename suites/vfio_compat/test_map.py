# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_IOMMU_MAP_DMA."""

from __future__ import annotations

import contextlib
from errno import EPERM
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context, Hwpt

READ, WRITE = 1, 2
MINIMUM = 32
MAX = 2**64 - 1


def check(context: Context, hwpt: Hwpt, iova: int, buffer: Buffer) -> None:
    """Have the mock device's HWPT looked at for the buffer."""
    fields = {"iova": iova, "length": buffer.size, "uptr": buffer.address}
    context.test("md_check_map", hwpt, check_map=fields)


@rule("vfio_compat.map.accepted")
@pytest.mark.parametrize("kind", ["type1", "type1v2"])
def test_map(expected, iommufd, auto_hwpt, start, buffer, kind, request):
    container = request.getfixturevalue(kind)
    with expected:
        container.map_dma(start, buffer, buffer.size)
    check(iommufd, auto_hwpt, start, buffer)


@rule("vfio_compat.map.argsz")
def test_argsz_below_the_least(expected, container, start, buffer):
    for argsz in (0, 1, 24, MINIMUM - 1):
        with expected:
            container.map_dma(start, buffer, buffer.size, argsz=argsz)


@rule("vfio_compat.map.argsz_larger")
def test_rest_of_argsz_is_not_looked_at(expected, container, start, buffer):
    with expected, container.sending(tail=b"\xff" * 8):
        container.map_dma(start, buffer, buffer.size)
    with expected:
        container.map_dma(start + buffer.size, buffer, buffer.size, argsz=0xFFFF_FFFF)


@rule("vfio_compat.map.unknown_flag")
def test_unknown_flag(expected, container, start, buffer):
    for bit in range(2, 32):
        with expected:
            container.map_dma(start, buffer, buffer.size, flags=READ | WRITE | 1 << bit)


@rule("vfio_compat.map.checked_first")
def test_argsz_and_flags_are_told_first(expected, vfio):
    for wrong in ({"argsz": 1}, {"flags": 1 << 31}):
        with expected:
            vfio.map_dma(0, 0, 4096, **wrong)


@rule("vfio_compat.map.without_ioas")
def test_map_without_ioas(expected, vfio, buffer):
    with expected:
        vfio.map_dma(0, buffer, buffer.size)


@rule("vfio_compat.map.pointer")
def test_map_at_a_bad_pointer(expected, vfio, unmapped, page_before_hole):
    for pointer in (0, unmapped, page_before_hole.address + page_before_hole.size - 24):
        with expected:
            vfio.ioctl_pointer("VFIO_IOMMU_MAP_DMA", pointer)


@rule("vfio_compat.map.protection")
@pytest.mark.parametrize("flags", [READ, WRITE, READ | WRITE])
def test_protection(iommufd, container, ioas, start, buffer, flags):
    container.map_dma(start, buffer, buffer.size, flags=flags)
    fd = iommufd.test("create_access", ioas).create_access.out_access_fd
    fields = {"iova": start, "length": 8, "uptr": iommufd.put(bytes(8))}
    for wanted, write in ((READ, 0), (WRITE, 1)):
        with contextlib.nullcontext() if flags & wanted else raises_errno(EPERM):
            iommufd.test("access_rw", fd, access_rw=fields | {"flags": write})


@rule("vfio_compat.map.no_flags")
def test_map_for_nothing(expected, container, start, buffer):
    with expected:
        container.map_dma(start, buffer, buffer.size, flags=0)


@rule("vfio_compat.map.no_flags_of_device")
def test_map_for_nothing_of_a_device(expected, with_device, start, buffer):
    with expected:
        with_device.map_dma(start, buffer, buffer.size, flags=0)


@rule("vfio_compat.map.no_flags_warns")
def test_map_for_nothing_in_a_generic_page_table(expected, with_device, start, buffer):
    with expected:
        with_device.map_dma(start, buffer, buffer.size, flags=0)


@rule("vfio_compat.map.length_zero")
def test_map_of_nothing(expected, container, start, buffer):
    with expected:
        container.map_dma(start, buffer, 0)


@rule("vfio_compat.map.overlap")
def test_map_twice(expected, container, start, buffer, page_size):
    container.map_dma(start, buffer, buffer.size)
    for iova, size in ((start, page_size), (start - page_size, 2 * page_size)):
        with expected:
            container.map_dma(iova, buffer, size)


@rule("vfio_compat.map.outside")
def test_map_outside_the_aperture(expected, with_device, start, buffer, page_size):
    for iova in (0, start - page_size, with_device.uapi.MOCK_APERTURE_LAST + 1):
        with expected:
            with_device.map_dma(iova, buffer, page_size)


@rule("vfio_compat.map.misaligned")
def test_map_within_a_page(expected, with_device, start, buffer, page_size):
    with expected:
        with_device.map_dma(start + 1, buffer, page_size)
    with expected:
        with_device.map_dma(start, buffer, page_size + 1)


@rule("vfio_compat.map.unreadable")
def test_map_of_no_memory(expected, with_device, start, unmapped, page_size):
    with expected:
        with_device.map_dma(start, unmapped, page_size)


@rule("vfio_compat.map.overflow")
def test_map_too_far(expected, container, start, buffer, page_size):
    with expected:
        container.map_dma(MAX - page_size + 1, buffer, 2 * page_size)
    with expected:
        container.map_dma(start, MAX - page_size + 1, 2 * page_size)


@rule("vfio_compat.map.last_address")
def test_map_at_the_last_address(expected, container, buffer):
    with expected:
        container.map_dma(MAX, buffer, 1)


@rule("vfio_compat.map.iova_kept")
def test_map_is_where_it_was_asked_for(container, ioas, start, buffer, page_size):
    container.map_dma(start, buffer, page_size)
    assert ioas.unmap(start, page_size) == page_size
