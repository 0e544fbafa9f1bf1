# SPDX-License-Identifier: GPL-2.0-only
"""A process under the kernel under test."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from pytest_iommufd.agent.protocol import Program, Result, parallel
from pytest_iommufd.machine.verdict import ProcessDied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_iommufd.agent.protocol import Argument
    from pytest_iommufd.machine.base import Machine

AT_FDCWD = -100
_ARENA_ALIGN = 16
# Files of /proc and /sys come in pieces of a page at most.
_PIECE = 8192


def entry_names(entries: bytes) -> list[str]:
    """Return the names in what getdents64 wrote (struct linux_dirent64), but for "." and ".."."""
    names = []
    while entries:
        length = int.from_bytes(entries[16:18], "little")
        names.append(entries[19:length].split(b"\0", 1)[0].decode())
        entries = entries[length:]
    return [name for name in names if name not in (".", "..")]


@dataclass(frozen=True)
class ProcessEnd:
    """How a process ended; its status is None when nobody waited for it."""

    status: int | None


def describe_status(status: int | None) -> str:
    """Say a wait status in words."""
    if status is None:
        return "has gone"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"


class Watcher(Protocol):
    """Sees all that processes do, for who wants to do it again."""

    def runs(self, process: Process, programs: Sequence[Program]) -> list[list[Result]]:
        """Note programs that start now, and return the list that takes their results."""

    def forks(self, process: Process, child: Process) -> None:
        """Note a fork."""

    def ends(self, process: Process) -> None:
        """Note that a process is killed."""

    def expects(self, *wanted: str) -> None:
        """Note that the next calls are those that a rule is about.

        Args:
            wanted: "OK", or the name of the errno that one of them must give; of several names
                any.
        """

    def expected(self) -> None:
        """Note that the last of them was made."""


class Process:
    """One process, which makes the calls it is asked to make.

    Machine.process() and Process.fork() make them.

    Attributes:
        machine: where it runs.
        worker: the agent's number for it.
        pid: its process id there.
        arena: the address of its scratch memory.
        arena_size: the size of that, bytes.
        watcher: sees what any process does; None for nobody.
    """

    watcher: ClassVar[Watcher | None] = None

    def __init__(
        self, machine: Machine, worker: int, *, pid: int, arena: int, arena_size: int
    ) -> None:
        self.machine = machine
        self.worker = worker
        self.pid = pid
        self.arena = arena
        self.arena_size = arena_size
        self._ended: ProcessEnd | None = None

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    @property
    def numbers(self) -> Mapping[str, int]:
        """System call numbers by name."""
        return self.machine.hello.numbers

    def run(
        self, program: Program, *, seconds: float | None = None, during: object = ""
    ) -> list[Result]:
        """Run a program in one round trip.

        Args:
            program: what to do.
            seconds: its deadline; by default the machine's.
            during: what a verdict calls it, by str().

        Returns:
            One result for each op.

        Raises:
            Verdict: the machine, the process or the call is lost; see machine/verdict.py.
            ValueError: the agent refused the program.
        """
        self._check_alive()
        watched = self.watcher.runs(self, [program]) if self.watcher else []
        payload = self.machine.run(
            self,
            program.encode(self.numbers),
            many=False,
            seconds=seconds,
            during=during or f"a program of {len(program)} ops",
        )
        watched.append(program.decode(memoryview(payload))[0])
        return watched[0]

    def run_parallel(
        self, programs: Sequence[Program], *, seconds: float | None = None, during: object = ""
    ) -> list[list[Result]]:
        """Run programs in threads of this process that start together.

        The arguments and errors are those of run().
        """
        self._check_alive()
        results = self.watcher.runs(self, programs) if self.watcher else []
        payload = memoryview(
            self.machine.run(
                self,
                parallel(program.encode(self.numbers) for program in programs),
                many=True,
                seconds=seconds,
                during=during or f"{len(programs)} programs in parallel",
            )
        )
        for program in programs:
            own, payload = program.decode(payload)
            results.append(own)
        return results

    def syscall(
        self,
        call: str | int,
        *args: Argument,
        repeat: int = 1,
        fail_nth: int = 0,
        seconds: float | None = None,
    ) -> Result:
        """Make one system call; an error is in the result, not raised."""
        program = Program()
        program.syscall(call, *args, repeat=repeat, fail_nth=fail_nth)
        return self.run(program, seconds=seconds, during=f"{call}()")[0]

    def checked(self, call: str | int, *args: Argument) -> int:
        """Make one system call that must succeed, and return its value.

        Raises:
            OSError: it failed.
        """
        result = self.syscall(call, *args)
        if result.errno:
            raise OSError(result.errno, f"{call}: {os.strerror(result.errno)}")
        return result.ret

    def open(self, path: str, flags: int = os.O_RDWR) -> int:
        """Open a file and return its descriptor.

        Raises:
            OSError: it cannot be opened.
        """
        name = path.encode() + b"\0"
        program = Program()
        program.write(self.arena, name)
        program.syscall("openat", AT_FDCWD, self.arena, flags | os.O_CLOEXEC, 0)
        result = self.run(program, during=f"open({path!r})")[1]
        if result.errno:
            raise OSError(result.errno, os.strerror(result.errno), path)
        return result.ret

    def read_file(self, path: str, size: int = 65536) -> bytes:
        """Return a file's first bytes.

        Args:
            path: such as a file of /proc or /sys; those come in pieces.
            size: how many bytes at most.

        Raises:
            OSError: it cannot be opened or read.
        """
        file = self.open(path, os.O_RDONLY)
        content = b""
        try:
            while piece := self._call_into(file, "read", min(size - len(content), _PIECE), path):
                content += piece
        finally:
            self.syscall("close", file)
        return content

    def _call_into(self, file: int, call: str, size: int, path: str) -> bytes:
        program = Program()
        program.syscall(call, file, self.arena, size, must=True)
        program.read(self.arena, size)
        got, content = self.run(program, during=f"reading {path}")
        if got.errno:
            raise OSError(got.errno, os.strerror(got.errno), path)
        return content.data[: got.ret]

    def list_folder(self, path: str) -> list[str]:
        """Return the names in a folder, such as one of /sys.

        Raises:
            OSError: it cannot be opened or read.
        """
        folder = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        names: list[str] = []
        try:
            while entries := self._call_into(folder, "getdents64", _PIECE, path):
                names += entry_names(entries)
        finally:
            self.syscall("close", folder)
        return names

    def write_file(self, path: str, content: bytes) -> None:
        """Write to a file that exists, such as one of /proc or /sys.

        Raises:
            OSError: it cannot be opened or written.
        """
        name = path.encode() + b"\0"
        at = self.arena + len(name) + -len(name) % _ARENA_ALIGN
        program = Program()
        program.write(self.arena, name)
        program.write(at, content)
        file = program.syscall(
            "openat", AT_FDCWD, self.arena, os.O_WRONLY | os.O_CLOEXEC, 0, must=True
        )
        program.syscall("write", file, at, len(content), must=True)
        program.syscall("close", file)
        _, _, opened, put, _ = self.run(program, during=f"writing {path}")
        error = opened.errno or put.errno
        if error:
            raise OSError(error, os.strerror(error), path)

    def read(self, address: int, size: int) -> bytes:
        """Return bytes of its memory.

        Raises:
            MemoryError: they are not all mapped and readable.
        """
        program = Program()
        program.read(address, size)
        result = self.run(program, during=f"reading memory at {address:#x}")[0]
        if result.errno:
            raise MemoryError(f"{size} bytes at {address:#x} are not all readable in {self!r}")
        return result.data

    def write(self, address: int, data: bytes) -> None:
        """Write bytes to its memory.

        Raises:
            MemoryError: they are not all mapped and writable.
        """
        program = Program()
        program.write(address, data)
        if self.run(program, during=f"writing memory at {address:#x}")[0].errno:
            raise MemoryError(f"{len(data)} bytes at {address:#x} are not all writable in {self!r}")

    def fork(self) -> Process:
        """Return a copy of this process, which shares its open files."""
        self._check_alive()
        child = self.machine.fork(self)
        if self.watcher:
            self.watcher.forks(self, child)
        return child

    def end(self) -> ProcessEnd:
        """Kill it, and wait until the kernel has let go of all it had."""
        if self._ended is None:
            self._ended = ProcessEnd(None)  # whatever happens now, it is not asked again
            if self.watcher:
                self.watcher.ends(self)
            self._ended = self.machine.end(self)
        return self._ended

    def note_death(self, status: int | None) -> None:
        """Remember that it ended by itself; for the machine."""
        self._ended = ProcessEnd(status)

    def _check_alive(self) -> None:
        if self._ended is not None:
            status = self._ended.status
            raise ProcessDied(f"{self!r} {describe_status(status)} earlier", status=status)
        if not self.machine.has(self):
            # its number may be another process's by now
            raise ProcessDied(f"{self!r} has gone: its machine was lost", status=None)
