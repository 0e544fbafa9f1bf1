# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_VFIO_IOAS."""

from __future__ import annotations

from errno import ENODEV

import pytest

from pytest_iommufd import raises_errno, rule

UNKNOWN = 9999
UNKNOWN_OP = 3
OPS = ["get", "set", "clear"]


@rule("vfio_compat.ioas.none")
def test_get_of_none(expected, vfio_ioas, ioas):
    with expected:
        vfio_ioas("get", ioas)


@rule("vfio_compat.ioas.set")
def test_get_after_set(expected, iommufd, vfio_ioas, ioas):
    other = iommufd.ioas_alloc()
    for chosen in (ioas, other, ioas):
        with expected:
            vfio_ioas("set", chosen)
        assert vfio_ioas("get") == chosen.id


@rule("vfio_compat.ioas.cleared")
@pytest.mark.usefixtures("container")
def test_get_after_clear(expected, vfio_ioas):
    vfio_ioas("clear")
    with expected:
        vfio_ioas("get")


@rule("vfio_compat.ioas.clear_of_none")
@pytest.mark.usefixtures("container")
def test_clear_twice(expected, vfio_ioas):
    for _ in range(2):
        with expected:
            vfio_ioas("clear")


@rule("vfio_compat.ioas.unknown")
def test_set_to_no_object(expected, vfio_ioas):
    for number in (0, UNKNOWN, 0xFFFF_FFFF):
        with expected:
            vfio_ioas("set", number)


@rule("vfio_compat.ioas.other_type")
def test_set_to_another_type(expected, vfio_ioas, ioas, mock_device, auto_hwpt):
    vfio_ioas("set", ioas)
    for target in (mock_device, mock_device.selftest, auto_hwpt):
        with expected:
            vfio_ioas("set", target)
    assert vfio_ioas("get") == ioas.id


@rule("vfio_compat.ioas.unknown_op")
def test_unknown_op(expected, iommufd, ioas):
    for op in (UNKNOWN_OP, 0xFFFF):
        with expected:
            iommufd.ioctl("IOMMU_VFIO_IOAS", op=op, ioas_id=ioas)


@rule("vfio_compat.ioas.reserved")
@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("op", OPS)
def test_reserved(expected, vfio_ioas, ioas, op):
    for bit in (0, 8, 15):
        with expected:
            vfio_ioas(op, ioas, __reserved=1 << bit)
    assert vfio_ioas("get") == ioas.id


@rule("vfio_compat.ioas.reserved_first")
def test_reserved_is_told_first(expected, vfio_ioas):
    with expected:
        vfio_ioas("get", __reserved=1)
    with expected:
        vfio_ioas("set", UNKNOWN, __reserved=1)


@rule("vfio_compat.ioas.destroyed")
def test_destroyed_ioas_is_forgotten(expected, container, vfio_ioas, ioas):
    ioas.destroy()
    with expected:
        vfio_ioas("get")
    with expected:
        container.map_dma(0, 0, 4096)
    with expected:
        container.get_info()


@rule("vfio_compat.ioas.other_destroyed")
@pytest.mark.usefixtures("container")
def test_ioas_stays_when_another_is_destroyed(iommufd, vfio_ioas, ioas):
    iommufd.ioas_alloc().destroy()
    assert vfio_ioas("get") == ioas.id


@rule("vfio_compat.ioas.of_each_context")
def test_another_context_has_its_own(container, other_container):
    container.get_info()
    with raises_errno(ENODEV):
        other_container.get_info()
