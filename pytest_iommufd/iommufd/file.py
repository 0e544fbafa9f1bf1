# SPDX-License-Identifier: GPL-2.0-only
"""An open file that takes ioctls."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pytest_iommufd.agent.protocol import Program, Ref
from pytest_iommufd.iommufd.request import Call, Request
from pytest_iommufd.iommufd.together import Together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Struct, Uapi

# What a size beyond a struct covers is written as zeroes, up to here.
_MOST_ZEROES = 1 << 16


@dataclass(frozen=True)
class _How:
    """How the next ioctl is made."""

    tail: bytes = b""
    at: int | None = None
    fail_nth: int = 0
    repeat: int = 1
    seconds: float | None = None


_PLAIN = _How()


class IoctlFile:
    """An open file of a process, and the ioctls on it.

    Args:
        process: who has it open.
        uapi: the kernel's structs.
        fd: the file descriptor, or the path of what is opened with the first call.
        together: has calls that make something wait for each other; by default none does.

    Attributes:
        process, uapi, together: the same.
        calls: the calls that the process has made, for reports.
    """

    def __init__(
        self,
        process: Process,
        uapi: Uapi,
        fd: int | str,
        together: Together | None = None,
    ) -> None:
        self.process = process
        self.uapi = uapi
        self.together = together or Together(process)
        self.calls = process.calls
        self._how = _PLAIN
        if isinstance(fd, int):
            self._fd: int | Ref = fd
        elif self.together.collecting:
            self._fd = self.together.open(self, fd)
        else:
            self._fd = process.open(fd)

    @property
    def fd(self) -> int:
        """The file descriptor, -1 once it is closed."""
        if isinstance(self._fd, Ref):
            self.together.send()
        return cast("int", self._fd)

    @fd.setter
    def fd(self, number: int) -> None:
        self._fd = number

    def make(self, name: str, /, **fields: Any) -> Struct:
        """Make an ioctl that makes something: as ioctl(), but it may wait for others.

        Returns:
            The struct; of what it gives only an object's id can be used before it is made.
        """
        __tracebackhide__ = True
        if not self.together.collecting or self._how is not _PLAIN:
            return self.ioctl(name, **fields)
        call = self.add(self.together.program, Request(name, fields), must=True)
        self.together.add(call)
        return cast("Struct", call.argument)

    def ioctl(self, name: str, /, **fields: Any) -> Struct:
        """Make an ioctl with a struct of the kernel's headers, in one round trip.

        Args:
            name: "IOMMU_HWPT_ALLOC", or "hwpt_alloc".
            fields: the struct's fields, as Request has them.

        Returns:
            The struct with what the kernel wrote.

        Raises:
            IoctlError: the call failed.
            UapiError: no such ioctl or field, or a value that does not fit.
        """
        __tracebackhide__ = True
        return cast("Struct", self.send(Request(name, fields)).argument)

    def ioctl_pointer(self, name: str, pointer: int = 0) -> int:
        """Make an ioctl with a bare pointer: null, unmapped, or what a test has put there.

        Args:
            name: as ioctl() has it.
            pointer: that, or a number where the command takes one.

        Returns:
            What ioctl(2) returned.

        Raises:
            IoctlError: the call failed.
        """
        __tracebackhide__ = True
        return self.send(Request(name, at=pointer, content=b"")).result.ret

    @contextlib.contextmanager
    def sending(
        self,
        *,
        tail: bytes = b"",
        at: int | None = None,
        fail_nth: int = 0,
        repeat: int = 1,
        seconds: float | None = None,
    ) -> Iterator[None]:
        """Have the block's ioctl made in another way than its fields tell.

        Only the first ioctl of the block is.

        Args:
            tail: bytes after the struct; its size counts them.
            at: where the struct is written.
            fail_nth: make the nth fault injection point in the call fail.
            repeat: how often to call it.
            seconds: a deadline of its own.

        Raises:
            AssertionError: the block made no ioctl on this file.
        """
        __tracebackhide__ = True
        how = _How(tail, at, fail_nth, repeat, seconds)
        self._how = how
        try:
            yield
            if self._how is how and how != _PLAIN:
                raise AssertionError(f"no ioctl was made on {self!r}")
        finally:
            self._how = _PLAIN

    def send(self, request: Request) -> Call:
        """Make an ioctl.

        Returns:
            The call; a command's positive result is its `result.ret`.

        Raises:
            IoctlError: the call failed.
        """
        __tracebackhide__ = True
        how, self._how = self._how, _PLAIN
        at = how.at if how.at is not None else request.at
        if how.tail:
            request = replace(request, tail=request.tail + how.tail)
        program = Program()
        call = self._add(
            program,
            request,
            self.process.arena if at is None else at,
            repeat=how.repeat,
            fail_nth=how.fail_nth,
        )
        call.alone = True
        call.take(self.process.run(program, seconds=how.seconds, during=call)).check()
        return call

    def add(
        self,
        program: Program,
        request: Request,
        *,
        must: bool = False,
        repeat: int = 1,
        fail_nth: int = 0,
    ) -> Call:
        """Have a program make an ioctl, with memory of its own unless the request says where.

        The other arguments are those of Program.syscall().

        Returns:
            The call; its take() wants the program's results.
        """
        return self._add(program, request, request.at, must=must, repeat=repeat, fail_nth=fail_nth)

    def _add(self, program: Program, request: Request, at: int | None, **options: Any) -> Call:
        ioctl = self.uapi.ioctl(request.name)
        struct: Struct | None = None
        pointers: dict[str, int] = {}
        content = request.content
        if content is None:
            struct, content, pointers = self._build(program, request, ioctl.struct)
        elif content:
            struct = self.uapi.struct(ioctl.struct).load(content)
            content = bytes(struct)[: len(content)] + content[struct.sizeof :]
        if at is None:
            at = self.process.scratch(len(content))
        if struct is not None:
            program.write(at, content)
            self.together.fill(program, at, content)
        argument = at if struct is None else struct
        call = Call(request, ioctl.name, argument, at, pointers, Ref(len(program)))
        self.calls.append(call)
        fd = self._fd if program is self.together.program else self.fd
        program.syscall("ioctl", fd, ioctl.number, at, made_of=call, **options)
        if struct is not None:
            program.read(at, len(content) if request.content else struct.sizeof)
        return call

    def _build(
        self, program: Program, request: Request, kind: str
    ) -> tuple[Struct, bytes, dict[str, int]]:
        """Return a request's struct, what is written for it, and where its fields' bytes are."""
        pointers = {
            name: self.put(value, program)
            for name, value in request.fields.items()
            if isinstance(value, bytes)
        }
        struct = self.uapi.struct(kind, **{**request.fields, **pointers})
        size = struct.fields[0]  # of VFIO's structs it is argsz
        if size not in request.fields:
            struct[size] = struct.sizeof + len(request.tail)
        content = bytes(struct) + request.tail if request.tail else bytes(struct)
        # what a size beyond the struct covers is zero, not what an earlier call left there
        if (rest := min(struct[size], _MOST_ZEROES) - len(content)) > 0:
            content += bytes(rest)
        return struct, content, pointers

    def put(self, content: bytes, program: Program | None = None) -> int:
        """Put bytes into the arena, where nothing else comes, and return their address.

        Args:
            content: the bytes.
            program: have this program write them, instead of a round trip of its own.
        """
        address = self.process.scratch(len(content))
        if program is None:
            self.process.write(address, content)
        else:
            program.write(address, content)
        return address

    def close(self) -> None:
        """Close the file descriptor; the kernel destroys the objects with the last one."""
        if self.fd >= 0:
            self.process.syscall("close", self.fd)
            self.fd = -1
