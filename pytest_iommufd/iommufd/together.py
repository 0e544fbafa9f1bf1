# SPDX-License-Identifier: GPL-2.0-only
"""Calls that wait for each other, so that what fixtures make costs one round trip and not five."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_iommufd.agent.protocol import Program, Ref
from pytest_iommufd.given import Given, given_in
from pytest_iommufd.machine.process import AT_FDCWD

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.request import Call
    from pytest_iommufd.machine import Process

ID_SIZE = 4
"""Bytes of an object's id, in each struct that has one."""


class File(Protocol):
    """A file that is opened when its calls are sent."""

    fd: int

    def put(self, content: bytes, program: Program | None = None) -> int:
        """Have bytes written where nothing else comes."""


@dataclass(frozen=True)
class _Waiting:
    """What is sent in one round trip, put into words only when a verdict is made."""

    program: Program = field(default_factory=Program)
    calls: list[Call] = field(default_factory=list)
    files: list[tuple[File, str, Ref]] = field(default_factory=list)

    def __str__(self) -> str:
        return "; ".join([*(f"open({path})" for _, path, _ in self.files), *map(str, self.calls)])


class Together:
    """Calls of a process that are sent when an id of theirs, or the process, is asked for.

    Calls that are made in a `with` block of it wait. A later one may have an id that an earlier one
    gives: the process copies it from struct to struct. The first that fails ends them, and is what
    send() raises. With somebody watching the machine none waits, so that each is seen by itself.

    Args:
        process: who makes them; they come before whatever it runs next.

    Attributes:
        collecting: whether a call that is made now waits.
    """

    def __init__(self, process: Process) -> None:
        self.collecting = False
        self._process = process
        self._waiting = _Waiting()

    def __enter__(self) -> None:
        self.collecting = not self._process.session.observers

    def __exit__(self, *_: object) -> None:
        self.collecting = False

    @property
    def program(self) -> Program:
        """The calls so far."""
        return self._waiting.program

    def open(self, file: File, path: str) -> Ref:
        """Have a file opened for reading and writing, and return what stands for its descriptor."""
        name = file.put(path.encode() + b"\0", self.program)
        flags = os.O_RDWR | os.O_CLOEXEC
        opened = self.program.syscall("openat", AT_FDCWD, name, flags, 0, must=True)
        self._waiting.files.append((file, path, opened))
        self._process.unsent = self.send
        return opened

    def add(self, call: Call) -> None:
        """Have a call wait that is in the program."""
        self._waiting.calls.append(call)
        self._process.unsent = self.send

    def fill(self, program: Program, at: int, content: bytes) -> None:
        """Have the program copy ids into a struct that are not known yet; another has them."""
        if program is not self.program:
            return
        for offset, number in given_in(content).items():
            for call in self._waiting.calls:
                if call.argument is number.source:
                    program.copy(at + offset, call.at + number.at, ID_SIZE)

    def send(self) -> None:
        """Make the calls that wait.

        Raises:
            IoctlError, OSError: one of them failed.
        """
        __tracebackhide__ = True
        self._process.unsent = None
        sent, self._waiting = self._waiting, _Waiting()
        results = self._process.run(sent.program, during=sent)
        for file, path, opened in sent.files:
            result = results[opened.index]
            if result.errno:
                raise OSError(result.errno, os.strerror(result.errno), path)
            file.fd = result.ret
        for call in sent.calls:
            call.take(results).check()


def known(number: Given) -> Given:
    """Return an id as it is by now in the struct that it came from."""
    content = bytes(number.source)[number.at : number.at + ID_SIZE]  # type: ignore[call-overload]
    return Given(int.from_bytes(content, sys.byteorder), number.source, number.at)
