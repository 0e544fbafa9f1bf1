# SPDX-License-Identifier: GPL-2.0-only
"""vIOMMUs with the mock driver's data, and mmap() of /dev/iommu."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from pytest_iommufd.iommufd import IoctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.uapi import Struct, Uapi

IN_DATA = 0xA11C_E5ED


class Offered(NamedTuple):
    """A vIOMMU made with data, and what the driver offers to map."""

    viommu: Viommu
    offset: int
    length: int


@pytest.fixture
def alloc(iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt) -> Callable[..., Viommu]:
    """Makes a vIOMMU of the mock device on the parent, with the fields given."""

    def make(**fields: Any) -> Viommu:
        given: dict[str, Any] = {"device": mock_device, "parent": parent_hwpt} | fields
        return iommufd.viommu_alloc(given.pop("device"), given.pop("parent"), **given)

    return make


@pytest.fixture
def alloc_with_data(
    alloc: Callable[..., Viommu], iommufd: Context, uapi: Uapi
) -> Callable[..., tuple[Viommu, Struct]]:
    """Makes a vIOMMU with data; returns it and the data as the driver left it."""

    def make(length: int = 24, **fields: Any) -> tuple[Viommu, Struct]:
        given = uapi.struct("iommu_viommu_selftest", in_data=IN_DATA, out_mmap_length=0x5555)
        at = iommufd.put(bytes(given))
        made = alloc(**({"data_len": length, "data_uptr": at} | fields))
        return made, given.load(iommufd.process.read(at, given.sizeof))

    return make


@pytest.fixture
def offered(alloc_with_data: Callable[..., tuple[Viommu, Struct]]) -> Offered:
    """A vIOMMU with something to map."""
    made, data = alloc_with_data()
    return Offered(made, int(data.out_mmap_offset), int(data.out_mmap_length))


@pytest.fixture
def map_file(iommufd: Context) -> Callable[..., int]:
    """Maps a part of /dev/iommu; returns the address."""

    def call(
        offset: int,
        length: int,
        protection: int = mmap.PROT_READ | mmap.PROT_WRITE,
        flags: int = mmap.MAP_SHARED,
        context: Context = iommufd,
    ) -> int:
        __tracebackhide__ = True
        args = (0, length, protection, flags, context.fd, offset)
        result = context.process.syscall("mmap", *args)
        context.calls.append(f"mmap{args}")
        if result.errno:
            raise IoctlError(result.errno, "mmap()", None)
        return result.ret

    return call


@pytest.fixture
def selftest_object(mock_device: MockDevice) -> IommufdObject:
    """The mock device's own object (IOMMUFD_OBJ_SELFTEST)."""
    return mock_device.selftest


@pytest.fixture
def hw_queue(viommu: Viommu, ioas: Ioas, buffer: Buffer, page_size: int) -> IommufdObject:
    """A hardware queue of the vIOMMU."""
    return viommu.hw_queue_alloc(ioas.map(buffer, page_size), page_size)
