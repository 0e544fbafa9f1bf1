# SPDX-License-Identifier: GPL-2.0-only
"""A page of memory that stops who touches it first, the kernel too, until it is filled.

What userfaultfd(2) of Linux offers, as far as tests need it; x86-64.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.memory import Buffer

if TYPE_CHECKING:
    from pytest_iommufd.agent.protocol import Program
    from pytest_iommufd.machine import Process

_USERFAULTFD = 323
_API = 0xAA
# include/uapi/linux/userfaultfd.h: _IOWR(0xAA, number, struct of so many bytes)
_UFFDIO_API = 0xC018_AA3F
_UFFDIO_REGISTER = 0xC020_AA00
_UFFDIO_COPY = 0xC028_AA03
_REGISTER_MISSING = 1
_MESSAGE_SIZE = 32


class FaultingPage:
    """A page that is not there when it is first touched.

    Args:
        process: in which.
        size: of a page, bytes.
        content: what will be there once it is filled.

    Attributes:
        address: its first byte.
    """

    def __init__(self, process: Process, size: int, content: bytes) -> None:
        self._page = Buffer.anonymous(process, size)
        self._source = Buffer.anonymous(process, size)
        self._source.write(content)
        self._size = size
        self.address = self._page.address
        self._fd = process.checked(_USERFAULTFD, os.O_CLOEXEC)
        self._scratch = self._source.address + size // 2
        process.write(self._scratch, pack("<QQQ", _API, 0, 0))
        process.checked("ioctl", self._fd, _UFFDIO_API, self._scratch)
        process.write(self._scratch, pack("<QQQQ", self.address, size, _REGISTER_MISSING, 0))
        process.checked("ioctl", self._fd, _UFFDIO_REGISTER, self._scratch)

    @staticmethod
    def supported(process: Process) -> bool:
        """Whether a process may have one: there is CONFIG_USERFAULTFD, and it is root."""
        fd = process.syscall(_USERFAULTFD, os.O_CLOEXEC)
        if fd.errno in (errno.ENOSYS, errno.EPERM):
            return False
        process.syscall("close", fd.ret)
        return True

    def wait(self, program: Program) -> None:
        """Have a program go on only when someone has touched the page, and is stopped by that."""
        program.syscall("read", self._fd, self._scratch, _MESSAGE_SIZE, must=True)

    def fill(self, program: Program) -> None:
        """Have a program put the content there, and let go on who was stopped."""
        content = pack("<QQQQQ", self.address, self._source.address, self._size, 0, 0)
        program.write(self._scratch, content)
        program.syscall("ioctl", self._fd, _UFFDIO_COPY, self._scratch)
