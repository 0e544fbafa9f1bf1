# SPDX-License-Identifier: GPL-2.0-only
"""Queues of I/O page faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.object import IommufdObject

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu


class FaultQueue(IommufdObject):
    """A fault queue object, and the file descriptor its faults are read from.

    Attributes:
        fd: that file descriptor in the process, -1 when closed.
    """

    def __init__(self, context: DevIommu, object_id: int, fd: int) -> None:
        super().__init__(context, object_id)
        self.fd = fd

    def close(self) -> None:
        """Close the file descriptor; the object stays."""
        if self.fd >= 0:
            self.context.process.syscall("close", self.fd)
            self.fd = -1
