# SPDX-License-Identifier: GPL-2.0-only
"""Arrays of the mock driver's invalidation requests."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, SupportsIndex

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, HwptData, MockDevice
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999


def entry(slot: int, flags: int = 0) -> bytes:
    """Return a request for a nested HWPT (struct iommu_hwpt_invalidate_selftest)."""
    return struct.pack("<II", flags, slot)


def ventry(cache: int, flags: int = 0, vdev_id: int = 0x99) -> bytes:
    """Return a request for a vIOMMU (struct iommu_viommu_invalidate_selftest)."""
    return struct.pack("<III", flags, vdev_id, cache)


@pytest.fixture
def invalidate(iommufd: Context, uapi: Uapi) -> Callable[..., int]:
    """Invalidates: `invalidate(target, *entries, **fields)`; returns how many were handled."""

    def call(target: SupportsIndex, *entries: bytes, **fields: Any) -> int:
        given: dict[str, Any] = {
            "hwpt_id": target,
            "data_type": uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
            "entry_len": len(entries[0]) if entries else 8,
            "entry_num": len(entries),
            "data_uptr": b"".join(entries),
        }
        return int(iommufd.ioctl("IOMMU_HWPT_INVALIDATE", **(given | fields)).entry_num)

    return call


@pytest.fixture
def iotlb(nested_hwpt: Hwpt, hwpt_type: HwptData) -> Callable[..., None]:
    """Checks which IOTLB entries of the nested HWPT were invalidated: `iotlb(0, 2)`."""

    def check(*invalidated: int) -> None:
        for slot in range(4):
            value = 0 if slot in invalidated else hwpt_type.sample["iotlb"]
            nested_hwpt.check_iotlb(slot, value)

    return check


@pytest.fixture
def cache(iommufd: Context, mock_device: MockDevice, uapi: Uapi) -> Callable[..., None]:
    """Checks which cache entries of a device were invalidated: `cache(0, 2, device=other)`."""

    def check(*invalidated: int, device: MockDevice = mock_device) -> None:
        for slot in range(4):
            value = 0 if slot in invalidated else uapi.IOMMU_TEST_DEV_CACHE_DEFAULT
            iommufd.test("dev_check_cache", device, check_dev_cache={"id": slot, "cache": value})

    return check


@pytest.fixture(params=["nested", "viommu"])
def target(request: pytest.FixtureRequest) -> Any:
    """What is invalidated: a nested HWPT, or a vIOMMU with a vDEVICE."""
    if request.param == "nested":
        return request.getfixturevalue("nested_hwpt")
    viommu = request.getfixturevalue("viommu")
    request.getfixturevalue("vdevice")
    return viommu


@pytest.fixture
def good(target: Any, nested_hwpt: Hwpt) -> bytes:
    """A request that the target handles."""
    return entry(0) if target is nested_hwpt else ventry(0)
