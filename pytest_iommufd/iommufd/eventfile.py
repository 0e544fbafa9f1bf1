# SPDX-License-Identifier: GPL-2.0-only
"""The file of a queue of faults or events."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.request import IoctlError
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.agent.protocol import Argument, Result
    from pytest_iommufd.iommufd.fault import FaultQueue
    from pytest_iommufd.iommufd.object import DevIommu
    from pytest_iommufd.iommufd.veventq import Veventq

_POLLIN, _POLLOUT, _POLLRDNORM = 0x001, 0x004, 0x040
ALL_EVENTS = _POLLIN | _POLLOUT | _POLLRDNORM
READABLE, WRITABLE = _POLLIN | _POLLRDNORM, _POLLOUT
# What a buffer has where read() wrote nothing.
UNTOUCHED = 0xEE


class EventFile:
    """What programs do with the file descriptor of a queue.

    Errors are IoctlError, so that a rule's expectation takes them too.

    Args:
        queue: whose.
    """

    def __init__(self, queue: FaultQueue | Veventq) -> None:
        self.fd = queue.fd
        self._context: DevIommu = queue.context

    def read(self, size: int, at: int | None = None, fail_nth: int = 0) -> bytes:
        """Read with a buffer of so many bytes, and return what it got.

        Args:
            size: what read() is told.
            at: where the buffer is; by default in the arena.
            fail_nth: make the nth fault injection point in the call fail.
        """
        __tracebackhide__ = True
        program = Program()
        buffer = at
        if buffer is None:
            buffer = self._context.put(bytes([UNTOUCHED]) * max(size, 1), program)
        call = program.syscall("read", self.fd, buffer, size, fail_nth=fail_nth)
        if at is None:
            program.read(buffer, max(size, 1))
        results = self._context.process.run(program, during=f"read({size})")
        count = self._checked(results[call.index], "read")
        data = self._context.process.read(buffer, count) if at is not None else results[-1].data
        if at is None and set(data[count:]) - {UNTOUCHED}:
            raise AssertionError(f"read() said {count} bytes and wrote more")
        return data[:count]

    def write(self, content: bytes, size: int | None = None, at: int | None = None) -> int:
        """Write bytes, and return how many were taken.

        Args:
            content: the bytes.
            size: what write() is told; by default how many there are.
            at: where the bytes are, if not in the arena.
        """
        __tracebackhide__ = True
        program = Program()
        buffer: Argument = self._context.put(content, program) if at is None else at
        call = program.syscall("write", self.fd, buffer, len(content) if size is None else size)
        results = self._context.process.run(program, during=f"write({content!r})")
        return self._checked(results[call.index], "write")

    def poll(self, events: int = ALL_EVENTS) -> int:
        """Return which events there are now, without waiting."""
        program = Program()
        buffer = self._context.put(pack("<iHHQQ", self.fd, events, 0, 0, 0), program)
        call = program.syscall("ppoll", buffer, 1, buffer + 8, 0, 0)
        program.read(buffer, 8)
        results = self._context.process.run(program, during="poll()")
        self._checked(results[call.index], "ppoll")
        return int(struct.unpack("<iHH", results[-1].data)[2])

    def call(self, name: str, *args: int) -> int:
        """Make a system call whose first argument is the file; returns its value."""
        __tracebackhide__ = True
        return self._checked(self._context.process.syscall(name, self.fd, *args), name)

    def _checked(self, result: Result, name: str) -> int:
        __tracebackhide__ = True
        outcome = errno_name(result.errno) if result.errno else str(result.ret)
        self._context.process.calls.append(f"{name}() = {outcome}")
        if result.errno:
            raise IoctlError(result.errno, f"{name}()", None)
        return result.ret
