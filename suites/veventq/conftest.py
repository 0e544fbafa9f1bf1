# SPDX-License-Identifier: GPL-2.0-only
"""Devices whose events go to a vEVENTQ, and the events that are read from it."""

from __future__ import annotations

import struct
from errno import EOPNOTSUPP
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pytest_iommufd.iommufd import IoctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, MockDevice, Viommu
    from pytest_iommufd.iommufd.eventfile import EventFile
    from pytest_iommufd.iommufd.object import IommufdObject

HEADER, EVENT = 8, 12
OTHER_DRIVERS = (1, 2)  # types: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, _TEGRA241_CMDQV
LOST = 1


class Event(NamedTuple):
    """An event, or the header that tells of lost ones, which has no virt_id."""

    sequence: int
    virt_id: int | None = 0x99
    flags: int = 0


def lost(sequence: int) -> Event:
    """Return the header that tells of lost events."""
    return Event(sequence, None, LOST)


@pytest.fixture
def attached(mock_device: MockDevice, viommu_hwpt: Hwpt, vdevice: IommufdObject) -> MockDevice:
    """The mock device, attached to a HWPT of the vIOMMU, with the virt_id 0x99."""
    assert vdevice.id
    mock_device.replace(viommu_hwpt)
    return mock_device


@pytest.fixture
def has_second_type(viommu: Viommu) -> bool:
    """Whether a mock vIOMMU can have a queue of another driver's type, beside its own."""
    try:
        made = viommu.veventq_alloc(type=OTHER_DRIVERS[0])
    except IoctlError as error:
        if error.errno == EOPNOTSUPP:
            return False
        raise
    made.close()
    made.destroy()
    return True


@pytest.fixture
def happen(iommufd: Context, attached: MockDevice) -> Callable[..., None]:
    """Has a device tell of so many events: `happen(3)`, `happen(1, other_device)`."""

    def trigger(number: int = 1, device: MockDevice = attached) -> None:
        for _ in range(number):
            iommufd.test("trigger_vevent", trigger_vevent={"dev_id": device.id})

    return trigger


@pytest.fixture
def events(event_file: EventFile) -> Callable[..., list[Event]]:
    """Reads with a buffer of so many bytes."""

    def read(size: int = 512) -> list[Event]:
        data = event_file.read(size)
        found = []
        while data:
            flags, sequence = struct.unpack("<II", data[:HEADER])
            if flags & LOST:
                found.append(Event(sequence, None, flags))
                data = data[HEADER:]
                continue
            (virt_id,) = struct.unpack("<I", data[HEADER:EVENT])
            found.append(Event(sequence, virt_id, flags))
            data = data[EVENT:]
        return found

    return read
