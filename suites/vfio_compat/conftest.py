# SPDX-License-Identifier: GPL-2.0-only
"""Containers with and without an IOAS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.iommufd import Context, Request
from pytest_iommufd.iommufd.device import first_iova
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.vfio import VfioContainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Ioas, MockDevice
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.iommufd.uffd import FaultingPage
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

PROT_NONE = 0


@pytest.fixture
def vfio(iommufd: Context) -> VfioContainer:
    """A container that has no IOAS."""
    return VfioContainer(iommufd)


@pytest.fixture
def vfio_ioas(iommufd: Context) -> Callable[..., int]:
    """IOMMU_VFIO_IOAS: `vfio_ioas("set", ioas)`; returns the struct's ioas_id."""

    def call(op: str, target: Any = 0, **fields: Any) -> int:
        number = getattr(iommufd.uapi, f"IOMMU_VFIO_IOAS_{op.upper()}")
        given = {"op": number, "ioas_id": target}
        return int(iommufd.ioctl("IOMMU_VFIO_IOAS", **(given | fields)).ioas_id)

    return call


@pytest.fixture
def container(vfio: VfioContainer, vfio_ioas: Callable[..., int], ioas: Ioas) -> VfioContainer:
    """A container with an IOAS, whose type is not set: that is as TYPE1v2."""
    vfio_ioas("set", ioas)
    return vfio


@pytest.fixture
def other_container(ledger: Ledger, uapi: Uapi) -> VfioContainer:
    """A container of another context, without an IOAS."""
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    return VfioContainer(context)


@pytest.fixture
def with_device(container: VfioContainer, mock_device: MockDevice) -> VfioContainer:
    """A container with an IOAS that a mock device is attached to."""
    assert mock_device.id
    return container


@pytest.fixture
def type1(with_device: VfioContainer) -> VfioContainer:
    """A container with a device, of TYPE1: mappings can be split."""
    with_device.set_iommu(with_device.uapi.VFIO_TYPE1_IOMMU)
    return with_device


@pytest.fixture
def type1v2(with_device: VfioContainer) -> VfioContainer:
    """A container with a device, of TYPE1v2: mappings stay whole."""
    with_device.set_iommu(with_device.uapi.VFIO_TYPE1v2_IOMMU)
    return with_device


@pytest.fixture
def start(iommufd: Context) -> int:
    """The first address that a mock device can be mapped at."""
    return first_iova(iommufd.uapi)


@pytest.fixture
def without_noiommu(process: Process) -> bool:
    """Whether VFIO, if there is any, has no mode without IOMMU."""
    try:
        process.read_file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
    except OSError:
        return True
    return False


@pytest.fixture
def own_page_table(uapi: Uapi) -> bool:
    """Whether the mock driver's page table is its own: a generic one has types."""
    return not uapi.has("MOCK_IOMMUPT_DEFAULT")


@pytest.fixture
def while_mapping(
    iommufd: Context, ioas: Ioas, faulting_page: FaultingPage, page_size: int
) -> Callable[..., int]:
    """Makes an ioctl while a map waits for its page: `while_mapping(iova, "IOMMU_...", **fields)`.

    The map is of a page into `ioas`, which must have a device: else it does not touch the page.
    """
    flags = iommufd.uapi.IOMMU_IOAS_MAP_FIXED_IOVA | iommufd.uapi.IOMMU_IOAS_MAP_READABLE

    def call(iova: int, name: str, /, **fields: Any) -> int:
        where = {"iova": iova, "user_va": faulting_page.address, "length": page_size}
        mapping = Request("IOMMU_IOAS_MAP", {"ioas_id": ioas, "flags": flags, **where})
        mapped, error = meanwhile(iommufd, faulting_page, mapping, Request(name, fields))
        assert not mapped, "the map that was waited for failed"
        return error

    return call
