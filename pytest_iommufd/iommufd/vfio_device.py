# SPDX-License-Identifier: GPL-2.0-only
"""Real devices, bound to a context through /dev/vfio/devices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, SupportsIndex

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.file import IoctlFile

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import DevIommu
    from pytest_iommufd.machine.passthrough import Node
    from pytest_iommufd.uapi import Struct

# A PCI device's regions lie in its file at multiples of this (VFIO_PCI_OFFSET_SHIFT).
_REGION = 1 << 40
UNBOUND = -1


class VfioDevice(IoctlFile):
    """An open /dev/vfio/devices/vfioN; the methods are its ioctls without VFIO_DEVICE_.

    Once it is bound it stands for its id, as any object does where a field wants one.

    Args:
        context: whose process opens it; binding is another matter.
        node: the file.

    Attributes:
        node: the same.
        id: what dev_id wants; -1 before bind_iommufd().
    """

    def __init__(self, context: DevIommu, node: Node) -> None:
        super().__init__(context.process, context.uapi, node.path)
        self.context = context
        self.node = node
        self.id = UNBOUND

    def __index__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<VfioDevice {self.node.address}>"

    def bind_iommufd(self, context: DevIommu | None = None, **fields: Any) -> None:
        """VFIO_DEVICE_BIND_IOMMUFD to a context: by default the one that it was opened with."""
        __tracebackhide__ = True
        given = {"iommufd": (context or self.context).fd}
        self.id = self.ioctl("VFIO_DEVICE_BIND_IOMMUFD", **(given | fields)).out_devid

    def attach_iommufd_pt(self, pt: SupportsIndex, **fields: Any) -> int:
        """VFIO_DEVICE_ATTACH_IOMMUFD_PT to an IOAS or HWPT, in place of any other.

        Returns:
            The HWPT's id; an IOAS gets one made for it.
        """
        __tracebackhide__ = True
        given: dict[str, Any] = {"pt_id": pt}
        return self.ioctl("VFIO_DEVICE_ATTACH_IOMMUFD_PT", **(given | fields)).pt_id  # type: ignore[no-any-return]

    def detach_iommufd_pt(self, **fields: Any) -> None:
        """VFIO_DEVICE_DETACH_IOMMUFD_PT: from what it is attached to, if anything."""
        __tracebackhide__ = True
        self.ioctl("VFIO_DEVICE_DETACH_IOMMUFD_PT", **fields)

    def get_hw_info(self, **fields: Any) -> Struct:
        """IOMMU_GET_HW_INFO, without a buffer for the driver's data unless one is given."""
        __tracebackhide__ = True
        return self.context.ioctl("IOMMU_GET_HW_INFO", **({"dev_id": self} | fields))

    # ---- the device itself ----

    def read_region(self, region: int, offset: int, size: int) -> bytes:
        """Read a region of a PCI device, such as a BAR or its configuration space.

        Args:
            region: VFIO_PCI_*_REGION_INDEX.
            offset: in it.
            size: bytes.

        Raises:
            OSError: it cannot be read.
        """
        program = Program()
        at = self.process.arena
        program.syscall("pread64", self.fd, at, size, region * _REGION + offset)
        program.read(at, size)
        got, content = self.process.run(program, during=f"reading region {region}")
        if got.errno or got.ret != size:
            raise OSError(got.errno, os.strerror(got.errno), self.node.path)
        return content.data

    def write_region(self, region: int, offset: int, content: bytes) -> None:
        """Write to a region of a PCI device; as read_region()."""
        program = Program()
        at = self.process.arena
        program.write(at, content)
        program.syscall("pwrite64", self.fd, at, len(content), region * _REGION + offset)
        _, put = self.process.run(program, during=f"writing region {region}")
        if put.errno or put.ret != len(content):
            raise OSError(put.errno, os.strerror(put.errno), self.node.path)
