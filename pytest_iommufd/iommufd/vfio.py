# SPDX-License-Identifier: GPL-2.0-only
"""/dev/iommu in the place of a VFIO container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.context import Call, IoctlError
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.context import Context
    from pytest_iommufd.uapi import Struct


class VfioContainer:
    """VFIO's ioctls on an open /dev/iommu; the methods have their names without VFIO_.

    Args:
        context: the open file.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.uapi = context.uapi

    def ask(self, name: str, argument: int = 0) -> int:
        """Make an ioctl whose argument is a number, or a bare pointer; returns what it returns.

        Raises:
            IoctlError: it failed.
        """
        __tracebackhide__ = True
        made = Call(name, argument)
        self.context.calls.append(made)
        number = self.uapi.ioctl(name).number
        result = self.context.process.syscall("ioctl", self.context.fd, number, argument)
        made.outcome = errno_name(result.errno) if result.errno else "OK"
        if result.errno:
            raise IoctlError(result.errno, name, None)
        return result.ret

    def ioctl(self, name: str, /, *, tail: bytes = b"", **fields: Any) -> Struct:
        """Make an ioctl with a struct; argsz counts the bytes behind it unless it is given.

        Raises:
            IoctlError: it failed; its struct is as the kernel left it.
        """
        __tracebackhide__ = True
        ioctl = self.uapi.ioctl(name)
        given = {key: value.__index__() for key, value in fields.items()}
        struct = self.uapi.struct(ioctl.struct, **given)
        if "argsz" not in fields:
            struct["argsz"] = struct.sizeof + len(tail)
        arena = self.context.process.arena
        program = Program()
        program.write(arena, bytes(struct) + tail)
        index = program.syscall("ioctl", self.context.fd, ioctl.number, arena).index
        program.read(arena, struct.sizeof)
        made = Call(ioctl.name, struct)
        self.context.calls.append(made)
        results = self.context.process.run(program, during=made)
        struct.load(results[-1].data)
        number = results[index].errno
        made.outcome = errno_name(number) if number else "OK"
        if number:
            raise IoctlError(number, ioctl.name, struct)
        return struct

    def set_iommu(self, kind: int) -> None:
        """VFIO_SET_IOMMU."""
        __tracebackhide__ = True
        self.ask("VFIO_SET_IOMMU", kind)

    def check_extension(self, extension: int) -> int:
        """VFIO_CHECK_EXTENSION."""
        __tracebackhide__ = True
        return self.ask("VFIO_CHECK_EXTENSION", extension)

    def get_info(self, **fields: Any) -> Struct:
        """VFIO_IOMMU_GET_INFO."""
        __tracebackhide__ = True
        return self.ioctl("VFIO_IOMMU_GET_INFO", **fields)

    def map_dma(self, iova: int, vaddr: Any, size: int, **fields: Any) -> None:
        """VFIO_IOMMU_MAP_DMA for reading and writing, unless flags say otherwise."""
        __tracebackhide__ = True
        flags = self.uapi.VFIO_DMA_MAP_FLAG_READ | self.uapi.VFIO_DMA_MAP_FLAG_WRITE
        given = {"iova": iova, "vaddr": vaddr, "size": size, "flags": flags}
        self.ioctl("VFIO_IOMMU_MAP_DMA", **(given | fields))

    def unmap_dma(self, iova: int, size: int, **fields: Any) -> int:
        """VFIO_IOMMU_UNMAP_DMA; returns how many bytes were unmapped."""
        __tracebackhide__ = True
        given = {"iova": iova, "size": size}
        return int(self.ioctl("VFIO_IOMMU_UNMAP_DMA", **(given | fields))["size"])

    def unmap_all(self, **fields: Any) -> int:
        """VFIO_IOMMU_UNMAP_DMA with the flag ALL."""
        __tracebackhide__ = True
        return self.unmap_dma(0, 0, **({"flags": self.uapi.VFIO_DMA_UNMAP_FLAG_ALL} | fields))
