# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of accesses need besides the fixtures: accesses, and memory to access."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Ioas
    from pytest_iommufd.iommufd.access import Access
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

PLACE = 0x4000_0000


@pytest.fixture
def access(ioas: Ioas) -> Access:
    """An access that may pin pages."""
    return ioas.create_access(pin=True)


@pytest.fixture
def area(ioas: Ioas, buffer: Buffer) -> int:
    """The IOVA of the buffer, mapped readable and writeable."""
    return ioas.map(buffer, iova=PLACE)


@pytest.fixture(params=["fast", "slow"])
def path(request: pytest.FixtureRequest, uapi: Uapi) -> int:
    """The flag for a way to copy: that of the memory's own process, or that of any."""
    return int(uapi.MOCK_ACCESS_RW_SLOW_PATH) if request.param == "slow" else 0


@pytest.fixture(params=["regular_file", "closed"])
def no_access(request: pytest.FixtureRequest, process: Process) -> int:
    """Descriptors that are not an access's, one after the other."""
    return process.open("/dev/null") if request.param == "regular_file" else 900
