# SPDX-License-Identifier: GPL-2.0-only
"""vDEVICEs, and what may be taken for something that they need."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.iommufd import IoctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, MockDevice, Viommu
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.uapi import Uapi


@pytest.fixture
def other_viommu(iommufd: Context, mock_device: MockDevice, other_parent: Hwpt) -> Viommu:
    """A second vIOMMU."""
    return iommufd.viommu_alloc(mock_device, other_parent)


@pytest.fixture
def selftest_object(mock_device: MockDevice) -> IommufdObject:
    """The mock device's own object (IOMMUFD_OBJ_SELFTEST)."""
    return mock_device.selftest


@pytest.fixture
def known(iommufd: Context, uapi: Uapi) -> Callable[[Viommu, int], bool]:
    """Tells whether a vIOMMU has a vDEVICE with a virt_id, by IOMMU_HWPT_INVALIDATE."""

    def ask(viommu: Viommu, virt_id: int) -> bool:
        entry = b"".join(word.to_bytes(4, "little") for word in (0, virt_id, 3))
        try:
            iommufd.ioctl(
                "IOMMU_HWPT_INVALIDATE",
                hwpt_id=viommu,
                data_type=uapi.IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
                entry_len=len(entry),
                entry_num=1,
                data_uptr=entry,
            )
        except IoctlError as error:
            if error.errno == EINVAL:
                return False
            raise
        return True

    return ask
