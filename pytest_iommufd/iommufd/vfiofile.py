# SPDX-License-Identifier: GPL-2.0-only
"""What VFIO's ioctls have in common, on whichever file they are made."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.context import Call, IoctlError
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.context import Context
    from pytest_iommufd.uapi import Struct


class VfioFile(abc.ABC):
    """An open file that takes ioctls of VFIO.

    Args:
        context: whose process has it, and where its calls are noted.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.uapi = context.uapi

    @property
    @abc.abstractmethod
    def fd(self) -> int:
        """The file descriptor in the process."""

    def ask(self, name: str, argument: int = 0) -> int:
        """Make an ioctl whose argument is a number, or a bare pointer; returns what it returns.

        Raises:
            IoctlError: it failed.
        """
        __tracebackhide__ = True
        made = Call(name, argument)
        self.context.calls.append(made)
        number = self.uapi.ioctl(name).number
        result = self.context.process.syscall("ioctl", self.fd, number, argument)
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
        index = program.syscall("ioctl", self.fd, ioctl.number, arena).index
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
