# SPDX-License-Identifier: GPL-2.0-only
"""Which sizes of a command's struct a kernel accepts, asked without running the command.

The struct ends at a page that is not mapped. Before that page is touched, the kernel rejects a size
that is too small with EINVAL, and bytes beyond its own struct that are not zero with E2BIG. What it
accepts gives EFAULT (iommufd_fops_ioctl() and copy_struct_from_user()).
"""

from __future__ import annotations

from errno import E2BIG, EINVAL
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program, Ref
from pytest_iommufd.iommufd import Buffer

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process

# The struct's first member, its size, must be readable.
_HEAD = 4
# No struct of iommufd is half as long.
_MOST = 256


class Sizes:
    """Asks a kernel for the sizes that commands accept.

    Args:
        process: the process that makes the calls.
        fd: its open /dev/iommu.
    """

    def __init__(self, process: Process, fd: int) -> None:
        self._process = process
        self._fd = fd
        page = process.hello.page_size
        memory = Buffer.anonymous(process, 2 * page)
        memory.unmap(page)
        self._end = memory.address + page

    def ask(self, number: int) -> tuple[int, int] | None:
        """Return the smallest size that a command accepts, and the size of the kernel's struct.

        Args:
            number: the command's.

        Returns:
            Both in bytes; None where the kernel does not decide by the size first.
        """
        sizes = range(_HEAD + 1, _MOST)
        program = Program()
        small = [self._call(program, number, size, _HEAD) for size in sizes]
        large = [self._call(program, number, size + 1, size) for size in sizes]
        results = self._process.run(program, during="asking for a struct's size")
        least = _first(sizes, [results[call.index].errno != EINVAL for call in small])
        beyond = _first(sizes, [results[call.index].errno == E2BIG for call in large])
        return (least, beyond - 1) if least and beyond else None

    def _call(self, program: Program, number: int, size: int, mapped: int) -> Ref:
        """Add a call with a struct that says this size, with so many of its bytes mapped."""
        at = self._end - mapped
        program.write(at, size.to_bytes(_HEAD, "little") + b"\xff" * (mapped - _HEAD))
        return program.syscall("ioctl", self._fd, number, at)


def _first(sizes: range, answers: list[bool]) -> int:
    """Return the first size whose answer is true, 0 if there is none."""
    return next((size for size, answer in zip(sizes, answers, strict=True) if answer), 0)
