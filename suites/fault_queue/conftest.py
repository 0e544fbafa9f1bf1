# SPDX-License-Identifier: GPL-2.0-only
"""Devices whose faults go to a queue, and the faults that are read from it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.iommufd import IoctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, FaultQueue, Hwpt, HwptData, MockDevice
    from pytest_iommufd.iommufd.eventfile import EventFile
    from pytest_iommufd.uapi import Struct, Uapi

RECORD = 40
SUCCESS, INVALID = 0, 1


def answer(*cookies: int, code: int = SUCCESS) -> bytes:
    """Return responses (struct iommu_hwpt_page_response)."""
    return b"".join(struct.pack("<II", cookie, code) for cookie in cookies)


@pytest.fixture
def iopf_hwpts(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptData, uapi: Uapi
) -> Callable[[FaultQueue], Hwpt]:
    """Makes a nested HWPT whose faults go to a queue."""

    def make(queue: FaultQueue) -> Hwpt:
        flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
        data = hwpt_type.valid()
        return iommufd.hwpt_alloc(mock_device, parent_hwpt, data, flags=flags, fault_id=queue)

    return make


@pytest.fixture
def iopf_hwpt(iopf_hwpts: Callable[[FaultQueue], Hwpt], fault_queue: FaultQueue) -> Hwpt:
    """A nested HWPT whose faults go to the fault queue."""
    return iopf_hwpts(fault_queue)


@pytest.fixture
def attached(mock_device: MockDevice, iopf_hwpt: Hwpt) -> MockDevice:
    """The mock device, attached so that its faults go to the fault queue."""
    mock_device.replace(iopf_hwpt)
    return mock_device


@pytest.fixture
def other_attached(other_device: MockDevice, iopf_hwpt: Hwpt) -> MockDevice:
    """A second mock device, whose faults go to the same queue."""
    other_device.replace(iopf_hwpt)
    return other_device


@pytest.fixture
def fault(iommufd: Context) -> Callable[..., None]:
    """Has a device fault: `fault(device, addr=..., pasid=..., grpid=..., perm=...)`."""

    def trigger(device: MockDevice, **fields: int) -> None:
        given: dict[str, Any] = {"dev_id": device.id, "perm": 1, "addr": 0x1000}
        iommufd.test("trigger_iopf", trigger_iopf=given | fields)

    return trigger


@pytest.fixture
def faults(fault_file: EventFile, uapi: Uapi) -> Callable[..., list[Struct]]:
    """Reads what is pending: at most so many faults."""

    def read(most: int = 1) -> list[Struct]:
        data = fault_file.read(most * RECORD)
        starts = range(0, len(data), RECORD)
        return [uapi.struct("iommu_hwpt_pgfault").load(data[at : at + RECORD]) for at in starts]

    return read


@pytest.fixture
def refused(fault_file: EventFile) -> Callable[[int], bool]:
    """Tells whether a cookie cannot be answered."""

    def ask(cookie: int) -> bool:
        try:
            fault_file.write(answer(cookie))
        except IoctlError:
            return True
        return False

    return ask
