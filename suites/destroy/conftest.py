# SPDX-License-Identifier: GPL-2.0-only
"""Objects of each kind, and what holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import (
        Buffer,
        Context,
        FaultQueue,
        Hwpt,
        HwptData,
        Ioas,
        MockDevice,
        Viommu,
    )
    from pytest_iommufd.iommufd.access import Access
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.uapi import Uapi


@pytest.fixture
def selftest(mock_device: MockDevice) -> IommufdObject:
    """The object that stands for the mock device itself."""
    return mock_device.selftest


@pytest.fixture
def access(other_ioas: Ioas) -> Access:
    """An access to the IOAS that no device is attached to."""
    return other_ioas.create_access()


@pytest.fixture
def other_hwpt(iommufd: Context, mock_device: MockDevice, other_ioas: Ioas) -> Hwpt:
    """A HWPT of the IOAS that no device is attached to."""
    return iommufd.hwpt_alloc(mock_device, other_ioas)


@pytest.fixture
def closed_queue(fault_queue: FaultQueue) -> FaultQueue:
    """A fault queue whose file is closed."""
    fault_queue.close()
    return fault_queue


@pytest.fixture
def closed_veventq(veventq: IommufdObject) -> IommufdObject:
    """A vEVENTQ whose file is closed."""
    veventq.close()  # type: ignore[attr-defined]
    return veventq


@pytest.fixture
def fault_hwpt(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptData,
    fault_queue: FaultQueue,
    uapi: Uapi,
) -> Hwpt:
    """A nested HWPT with the fault queue."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    data = hwpt_type.valid()
    return iommufd.hwpt_alloc(mock_device, parent_hwpt, data, flags=flags, fault_id=fault_queue)


@pytest.fixture
def hw_queue(viommu: Viommu, ioas: Ioas, buffer: Buffer, page_size: int) -> IommufdObject:
    """A hardware queue of the vIOMMU."""
    return viommu.hw_queue_alloc(ioas.map(buffer, page_size), page_size)


@pytest.fixture
def device_on_hwpt(iommufd: Context, hwpt: Hwpt) -> MockDevice:
    """A device attached to the HWPT."""
    return iommufd.mock_device(hwpt)


@pytest.fixture
def device_on_parent(iommufd: Context, parent_hwpt: Hwpt) -> MockDevice:
    """A device attached to the parent."""
    return iommufd.mock_device(parent_hwpt)


@pytest.fixture
def device_on_nested(iommufd: Context, nested_hwpt: Hwpt) -> MockDevice:
    """A device attached to the nested HWPT."""
    return iommufd.mock_device(nested_hwpt)


@pytest.fixture
def device_on_other_ioas(iommufd: Context, other_ioas: Ioas) -> MockDevice:
    """A device attached to the other IOAS."""
    return iommufd.mock_device(other_ioas)
