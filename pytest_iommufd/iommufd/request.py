# SPDX-License-Identifier: GPL-2.0-only
"""An ioctl to be made, and what became of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from errno import ECANCELED
from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent.protocol import Result
from pytest_iommufd.uapi import Struct, errno_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_iommufd.agent.protocol import Ref


_NONE = Result(-1, 0, 0)


@dataclass(frozen=True)
class Request:
    """An ioctl to be made: the fields of its struct, and apart from them how it is sent.

    Attributes:
        name: "IOMMU_HWPT_ALLOC", or "hwpt_alloc".
        fields: numbers, objects that stand for one, a dict for a member that is a struct. Bytes
            are put into memory, and their field points to them. The struct's `size` (VFIO's
            `argsz`) is right unless it is given.
        tail: bytes after the struct; its size counts them.
        at: where the struct is written; by default in the process's arena.
        content: what is written in place of a struct; without a byte, `at` is a bare pointer.
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    tail: bytes = b""
    at: int | None = None
    content: bytes | None = None


class IoctlError(OSError):
    """An ioctl failed.

    Attributes:
        ioctl: its name.
        struct: what was given, with what the kernel wrote; None when the pointer was bare.
        after: the bytes that are there afterwards.
    """

    def __init__(self, number: int, ioctl: str, struct: Struct | None, after: bytes = b"") -> None:
        super().__init__(number, os.strerror(number))
        self.ioctl = ioctl
        self.struct = struct
        self.after = after

    def __str__(self) -> str:
        given = f" with {self.struct!r}" if self.struct is not None else ""
        return f"{self.ioctl}: {errno_name(self.errno or 0)} ({self.strerror}){given}"


class InjectedFailure(Exception):  # noqa: N818 - not an error of the kernel
    """A call failed because a point in it was made to: the test ends, whatever it expects.

    Attributes:
        error: what the call gave.
    """

    def __init__(self, error: IoctlError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(eq=False)
class Call:
    """A request as a part of a program, put into words only when a report is made.

    Attributes:
        request: what it was made of, its fields as they were given.
        ioctl: its name.
        argument: its struct, with what the kernel wrote once it has returned; or a bare pointer.
        at: where the struct is in memory.
        pointers: the fields whose bytes were put into memory, and where.
        ref: its value, for later ops of the program.
        outcome: "OK", the errno's name, or the positive number that the command returned.
        result: what it gave.
        after: the bytes at `at` once it has returned.
        alone: whether it is sent by itself, and its failure raised.
        may_fail: whether an observer has made a point in it fail.
        usual: the errno that it gives without that, 0 for success.
    """

    request: Request
    ioctl: str
    argument: Struct | int
    at: int
    pointers: Mapping[str, int]
    ref: Ref
    outcome: str = "did not return"
    result: Result = _NONE
    after: bytes = b""
    alone: bool = False
    may_fail: bool = False
    usual: int = 0

    def __str__(self) -> str:
        shown = f"{self.argument:#x}" if isinstance(self.argument, int) else repr(self.argument)
        return f"{self.ioctl}({shown}) = {self.outcome}"

    @property
    def errno(self) -> int:
        """What it gave, 0 for success."""
        return self.result.errno

    @property
    def injected(self) -> bool:
        """Whether a point that an observer has made fail was there."""
        return self.may_fail and self.result.fail_nth_left == 0

    def take(self, results: Sequence[Result]) -> Call:
        """Take note of what it gave, and return itself.

        Args:
            results: those of its program.

        Raises:
            MemoryError: the struct cannot be where it was to be.
        """
        index = self.ref.index
        self.result = results[index]
        if isinstance(self.argument, Struct):
            if {results[index - 1].errno, results[index + 1].errno} - {0, ECANCELED}:
                raise MemoryError(f"the struct cannot be at {self.at:#x}: not mapped")
            self.after = results[index + 1].data
            self.argument.load(self.after)
        self.outcome = errno_name(self.errno) if self.errno else str(self.result.ret or "OK")
        return self

    def check(self) -> None:
        """See that it succeeded.

        Raises:
            IoctlError: it failed.
            InjectedFailure: it failed since an observer has made a point in it fail.
        """
        __tracebackhide__ = True
        if self.errno:
            struct = self.argument if isinstance(self.argument, Struct) else None
            error = IoctlError(self.errno, self.ioctl, struct, self.after)
            raised = self.injected and self.errno != self.usual
            raise InjectedFailure(error) if raised else error
