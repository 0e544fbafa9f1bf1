# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of pinned pages need besides the fixtures: limits, modes, odd memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.iommufd.accounting import CAP_IPC_LOCK, drop_capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

MEMORY_LIMIT = 65536  # what iommufd_test begins with


@pytest.fixture
def base(uapi: Uapi) -> int:
    """The first IOVA that a mock device can use."""
    return int(uapi.MOCK_APERTURE_START)


@pytest.fixture(params=[0, 1], ids=["user", "mm"])
def mode(iommufd: Context, uapi: Uapi, request: pytest.FixtureRequest) -> int:
    """What pinned pages are counted for: the user, or the process's memory."""
    option, op = uapi.IOMMU_OPTION_RLIMIT_MODE, uapi.IOMMU_OPTION_OP_SET
    iommufd.ioctl("IOMMU_OPTION", option_id=option, op=op, val64=request.param)
    return int(request.param)


@pytest.fixture
def unprivileged(process: Process) -> None:
    """The process gives up CAP_IPC_LOCK: what it pins counts."""
    drop_capability(process, CAP_IPC_LOCK)


@pytest.fixture
def memory_limit(iommufd: Context, uapi: Uapi) -> Iterator[Callable[[int], None]]:
    """Sets how many bytes the kernel may use for lists of pages, for all contexts."""
    # before the test: without iommufd_test nothing is to be set back after it
    op = uapi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT

    def limit(size: int) -> None:
        iommufd.ioctl("IOMMU_TEST_CMD", op=op, memory_limit={"limit": size})

    yield limit
    if iommufd.process.alive:
        limit(MEMORY_LIMIT)
