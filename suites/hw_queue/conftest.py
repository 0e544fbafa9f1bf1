# SPDX-License-Identifier: GPL-2.0-only
"""Queues in memory that the IOAS of the vIOMMU's parent has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Ioas, Viommu
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.uapi import Uapi


@pytest.fixture
def base(uapi: Uapi) -> int:
    """An IOVA in the mock aperture, on a huge page's boundary."""
    return int(uapi.MOCK_APERTURE_START)


@pytest.fixture
def mapped(ioas: Ioas, buffer: Buffer, page_size: int, base: int) -> int:
    """The IOVA of a page in the IOAS."""
    return ioas.map(buffer, page_size, iova=base)


@pytest.fixture
def queue(viommu: Viommu, mapped: int, page_size: int) -> IommufdObject:
    """The vIOMMU's first hardware queue."""
    return viommu.hw_queue_alloc(mapped, page_size)
