# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of pinned pages need besides the fixtures: limits, modes, odd memory, dma-bufs."""

from __future__ import annotations

from errno import EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import IoctlError
from pytest_iommufd.iommufd import Context
from pytest_iommufd.iommufd.accounting import CAP_IPC_LOCK, drop_capability

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd.leaks import Ledger
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
def memory_limit(iommufd: Context) -> Iterator[Callable[[int], None]]:
    """Sets how many bytes the kernel may use for lists of pages, for all contexts."""

    def limit(size: int) -> None:
        iommufd.test("set_temp_memory_limit", memory_limit={"limit": size})

    yield limit
    if iommufd.process.machine.has(iommufd.process):
        limit(MEMORY_LIMIT)


@pytest.fixture
def dmabuf(iommufd: Context) -> Callable[[int], int]:
    """Makes a dma-buf of so many bytes, and returns its descriptor."""

    def make(size: int) -> int:
        # the operation does not tell the descriptor: it is the lowest that is free
        free = iommufd.process.checked("dup", iommufd.fd)
        iommufd.process.checked("close", free)
        iommufd.test("dmabuf_get", dmabuf_get={"length": size})
        return free

    return make


@pytest.fixture
def has_dmabuf(ledger: Ledger, uapi: Uapi) -> bool:
    """Whether the kernel's iommufd_test makes dma-bufs: EINVAL for one of no byte, then."""
    if not uapi.has("IOMMU_TEST_OP_DMABUF_GET"):
        return False
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    try:
        context.test("dmabuf_get", dmabuf_get={"length": 0})
    except IoctlError as error:
        return error.errno != EOPNOTSUPP
    return True
