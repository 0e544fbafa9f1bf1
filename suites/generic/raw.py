# SPDX-License-Identifier: GPL-2.0-only
"""Calls made of raw bytes and of bare pointers, many of them in one round trip."""

from __future__ import annotations

import functools
import mmap
from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd import Request
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_iommufd.iommufd import Buffer, Call, Context
    from pytest_iommufd.uapi import Ioctl


def outcomes(iommufd: Context, requests: Iterable[int], pointer: int) -> dict[str, str]:
    """Make requests with one pointer, and return what each gives."""
    program = Program()
    indexes = {
        request: program.syscall("ioctl", iommufd.fd, request, pointer).index
        for request in requests
    }
    results = iommufd.process.run(program, during="requests that are no command")
    return {hex(number): errno_name(results[index].errno) for number, index in indexes.items()}


def others(wanted: str, found: dict[str, str]) -> dict[str, str]:
    """Return what gave something else."""
    assert found
    return {request: errno for request, errno in found.items() if errno != wanted}


class Raw:
    """A command of the kernel, called with bytes instead of fields.

    Args:
        context: where.
        ioctl: the command.
        make_page: makes memory behind which nothing can be read.

    Attributes:
        context, ioctl: the same.
        sizeof: the size of its struct in the kernel's header.
    """

    def __init__(self, context: Context, ioctl: Ioctl, make_page: Callable[[], Buffer]) -> None:
        self.context = context
        self.ioctl = ioctl
        self.sizeof = context.uapi.sizeof(ioctl.struct)
        self.make_page = make_page

    @functools.cached_property
    def page(self) -> Buffer:
        """Where a struct is put that must be at the end of memory, or that is read-only."""
        return self.make_page()

    def of_size(self, size: int, filler: int = 0) -> bytes:
        """Return a struct of zeroes, or of another byte, that gives a size and has so many."""
        return size.to_bytes(4, "little") + bytes([filler]) * (max(size, self.sizeof) - 4)

    def calls(
        self, contents: Iterable[bytes], *, at: int | None = None, at_end: bool = False
    ) -> list[Call]:
        """Make a call with each of these bytes, all in one round trip.

        Args:
            contents: the bytes of the calls, in order; each call is made whatever the others give.
            at: where the struct is put; by default in the process's arena.
            at_end: put it where memory ends: what follows it cannot be read.
        """
        __tracebackhide__ = True
        program = Program()
        answers = []
        for content in contents:
            where = self.page.end - len(content) if at_end else at or self.context.process.arena
            request = Request(self.ioctl.name, at=where, content=content)
            answers.append(self.context.add(program, request))
        during = answers[0] if len(answers) == 1 else f"calls of {self.ioctl.name}"
        results = self.context.process.run(program, during=during)
        return [answer.take(results) for answer in answers]

    def least_size(self) -> int:
        """Return the least size that the kernel does not reject; what follows it is unreadable."""
        sizes = [size.to_bytes(4, "little") for size in range(self.sizeof + 1)]
        errnos = [answer.errno for answer in self.calls(sizes, at_end=True)]
        assert EFAULT in errnos, f"no size up to {self.sizeof} was taken"
        least = errnos.index(EFAULT)
        assert set(errnos[:least]) <= {EINVAL}
        assert set(errnos[least:]) == {EFAULT}
        return least

    def call(self, content: bytes, *, at: int | None = None) -> bytes:
        """Make the call with these bytes, and return what is there afterwards.

        Raises:
            IoctlError: it failed.
        """
        __tracebackhide__ = True
        (made,) = self.calls([content], at=at)
        made.check()
        return made.after

    def call_read_only(self, content: bytes) -> None:
        """Make the call with bytes in memory that cannot be written."""
        __tracebackhide__ = True
        self.page.write(content)
        self.page.protect(mmap.PROT_READ)
        try:
            self.context.ioctl_pointer(self.ioctl.name, self.page.address)
        finally:
            self.page.protect(mmap.PROT_READ | mmap.PROT_WRITE)
