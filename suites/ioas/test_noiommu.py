# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_NOIOMMU_GET_PA, which the kernels that are built here have only as a stub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context, Ioas
    from pytest_iommufd.rules.expectation import Expectation

LAST = (1 << 64) - 1
WRONG = {"flags": 1, "__reserved": 1, "length": 0, "iova": LAST, "ioas_id": 9999}


@rule("ioas.noiommu_get_pa.not_built")
@pytest.mark.usefixtures("mock_device")
def test_refused(expected: Expectation, iommufd: Context, ioas: Ioas, area: int) -> None:
    right: dict[str, Any] = {"ioas_id": ioas, "iova": area, "length": 0x1000}
    for wrong in ({}, *({field: value} for field, value in WRONG.items())):
        with expected:
            iommufd.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA", **(right | wrong))
