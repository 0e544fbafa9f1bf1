# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's edu, a PCI device that copies memory when it is told to.

Its registers are described in QEMU's docs/specs/edu.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import VfioDevice
    from pytest_iommufd.machine import Process
    from pytest_iommufd.machine.passthrough import Node

_ID = b"\x34\x12\xe8\x11"
# VFIO's numbers of a PCI device's regions.
_BAR, _CONFIG = 0, 7
_COMMAND, _MEMORY_AND_MASTER = 4, 6
# Registers of the BAR.
_SOURCE, _TARGET, _COUNT, _START = 0x80, 0x88, 0x90, 0x98
_RUN, _TO_MEMORY = 1, 2
# The device's own memory, as its DMA sees it.
_OWN = 0x40000
# It takes 0.1 s for each copy.
_PATIENCE = 5.0
HIGHEST = (1 << 28) - 1
"""The highest address that its DMA reaches."""


def is_edu(process: Process, node: Node) -> bool:
    """Tell by its identity in /sys whether a device is one."""
    config = process.read_file(f"/sys/bus/pci/devices/{node.address}/config", 4)
    return config == _ID


class Edu:
    """Has a device copy memory.

    Args:
        device: one that is bound.
    """

    def __init__(self, device: VfioDevice) -> None:
        self._device = device
        device.write_region(_CONFIG, _COMMAND, struct.pack("<H", _MEMORY_AND_MASTER))

    def copy(self, source: int, target: int, size: int) -> None:
        """Have it read memory at one IOVA and write it to another.

        Args:
            source: where it reads, up to HIGHEST; elsewhere, nothing that is known.
            target: where it writes, up to HIGHEST; elsewhere the write is lost.
            size: bytes, 4096 at most.
        """
        self.load(source, size)
        self.store(target, size)

    def load(self, iova: int, size: int) -> None:
        """Have it read memory into its own."""
        self._run(iova, _OWN, size, 0)

    def store(self, iova: int, size: int) -> None:
        """Have it write its own memory to memory."""
        self._run(_OWN, iova, size, _TO_MEMORY)

    def _run(self, source: int, target: int, size: int, direction: int) -> None:
        for register, value in ((_SOURCE, source), (_TARGET, target), (_COUNT, size)):
            self._device.write_region(_BAR, register, struct.pack("<Q", value))
        self._device.write_region(_BAR, _START, struct.pack("<Q", _RUN | direction))
        deadline = time.monotonic() + _PATIENCE
        while self._device.read_region(_BAR, _START, 8)[0] & _RUN:
            assert time.monotonic() < deadline, "edu does not end its DMA"
            time.sleep(0.01)
