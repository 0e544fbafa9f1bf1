# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of attaching need besides the fixtures: IOASes and HWPTs of other kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, HwptData, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

# Below the mock aperture.
OUTSIDE = 0x1000


@pytest.fixture
def dirty_hwpt(iommufd: Context, mock_device: MockDevice, ioas: Ioas, uapi: Uapi) -> Hwpt:
    """A HWPT of the IOAS with dirty tracking."""
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    return iommufd.hwpt_alloc(mock_device, ioas, flags=flags)


@pytest.fixture
def destroyed_ioas(iommufd: Context) -> Ioas:
    """An IOAS that was destroyed; nothing has its id, or one above it."""
    keep = [iommufd.ioas_alloc() for _ in range(20)]
    keep[-1].destroy()
    return keep[-1]


@pytest.fixture
def ioas_outside_aperture(iommufd: Context, buffer: Buffer, page_size: int) -> Ioas:
    """An IOAS with an area below the mock aperture."""
    made = iommufd.ioas_alloc()
    made.map(buffer, page_size, iova=OUTSIDE)
    return made


@pytest.fixture
def ioas_unaligned(iommufd: Context, buffer: Buffer, uapi: Uapi) -> Ioas:
    """An IOAS with an area in the mock aperture that begins within a mock page."""
    made = iommufd.ioas_alloc()
    made.map(buffer.address + 16, 4096, iova=uapi.MOCK_APERTURE_START + 16)
    return made


@pytest.fixture
def ioas_allowed_outside(iommufd: Context) -> Ioas:
    """An IOAS that allows a range below the mock aperture."""
    made = iommufd.ioas_alloc()
    made.allow_iovas((OUTSIDE, 2 * OUTSIDE - 1))
    return made


@pytest.fixture
def ioas_unpinnable(iommufd: Context, buffers: Callable[..., Buffer], page_size: int) -> Ioas:
    """An IOAS with an area of memory that is gone."""
    made = iommufd.ioas_alloc()
    memory = buffers(page_size)
    made.map(memory, iova=0x2000_0000)
    memory.unmap()
    return made


# ---- PASIDs ----


@pytest.fixture
def pasid_hwpt(
    iommufd: Context, ioas: Ioas, mock_devices: Callable[..., MockDevice], uapi: Uapi
) -> Hwpt:
    """A HWPT of the IOAS for PASIDs, made for another device."""
    return iommufd.hwpt_alloc(mock_devices(pasid=True), ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)


@pytest.fixture
def other_pasid_hwpt(
    iommufd: Context, ioas: Ioas, mock_devices: Callable[..., MockDevice], uapi: Uapi
) -> Hwpt:
    """A second one."""
    return iommufd.hwpt_alloc(mock_devices(pasid=True), ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)


@pytest.fixture
def nested_pasid_hwpt(
    iommufd: Context,
    ioas: Ioas,
    mock_devices: Callable[..., MockDevice],
    hwpt_type: HwptData,
    uapi: Uapi,
) -> Hwpt:
    """A nested HWPT for PASIDs."""
    device = mock_devices(pasid=True)
    parent = iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    flags = uapi.IOMMU_HWPT_ALLOC_PASID
    return iommufd.hwpt_alloc(device, parent, hwpt_type.valid(), flags=flags)


@pytest.fixture
def pasids(pasid_hwpt: Hwpt, mock_devices: Callable[..., MockDevice]) -> MockDevice:
    """A device with PASIDs, attached to a HWPT for such."""
    return mock_devices(pasid_hwpt, pasid=True)
