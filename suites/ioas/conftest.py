# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of IOMMU_IOAS_* need besides the fixtures: places, wrong ids, files."""

from __future__ import annotations

from errno import EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import IoctlError
from pytest_iommufd.iommufd import Context
from pytest_iommufd.iommufd.accounting import CAP_IPC_LOCK, CAP_SYS_RESOURCE, drop_capability
from pytest_iommufd.iommufd.device import first_iova

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Ioas
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

NEVER_USED = 9999


@pytest.fixture
def base(uapi: Uapi) -> int:
    """The first IOVA that a mock device can use."""
    return first_iova(uapi)


@pytest.fixture
def aperture(uapi: Uapi) -> tuple[int, int]:
    """The first and the last IOVA that a mock device can use."""
    return int(uapi.MOCK_APERTURE_START), int(uapi.MOCK_APERTURE_LAST)


@pytest.fixture
def unknown_id() -> int:
    """An ID that no object has. Of another type is auto_hwpt here; `generic` has each type."""
    return NEVER_USED


@pytest.fixture(params=["unknown_id", "auto_hwpt"])
def no_ioas(request: pytest.FixtureRequest) -> int:
    """IDs that no IOAS has, one after the other."""
    found: int = request.getfixturevalue(request.param).__index__()
    return found


@pytest.fixture
def area(ioas: Ioas, buffer: Buffer, base: int, page_size: int) -> int:
    """The IOVA of two pages of the buffer."""
    return ioas.map(buffer, 2 * page_size, iova=base)


@pytest.fixture
def without_sys_resource(process: Process) -> None:
    """The process gives up CAP_SYS_RESOURCE."""
    drop_capability(process, CAP_SYS_RESOURCE)


@pytest.fixture
def without_ipc_lock(process: Process) -> None:
    """The process gives up CAP_IPC_LOCK: what it pins counts."""
    drop_capability(process, CAP_IPC_LOCK)


@pytest.fixture
def without_noiommu(ledger: Ledger, uapi: Uapi) -> bool:
    """Whether iommufd has no devices without an IOMMU: it would mind a length of 0, else."""
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    try:
        context.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA", ioas_id=context.ioas_alloc())
    except IoctlError as error:
        return error.errno == EOPNOTSUPP
    return False
