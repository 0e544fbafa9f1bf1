# SPDX-License-Identifier: GPL-2.0-only
"""A process under the kernel under test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import (
    Frame,
    FrameType,
    Program,
    Result,
    parallel,
    parse_spawned,
    parse_status,
)
from pytest_iommufd.machine.verdict import ProcessDied, describe_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_iommufd.agent.protocol import Argument, Hello
    from pytest_iommufd.machine.session import Session

AT_FDCWD = -100
# In the arena: a slot for the struct of the call that is being made, then all else.
_STRUCT_ROOM = 1 << 16
_ALIGN = 64
# A killed process that is not gone by then hangs in the kernel.
_KILL_SECONDS = 3.0
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


class Process:
    """One process, which makes the calls it is asked to make.

    Machine.process(), start() and fork() make them.

    Args:
        session: with the agent that has it.
        worker: the agent's number for it.
        spawned: what the agent said of it.

    Attributes:
        session, worker: the same.
        pid: its process id there.
        arena: the address of its scratch memory.
        arena_size: the size of that, bytes.
        calls: what tests are about of what it and its forks have called, for reports by str().
        unsent: runs what waits for the next program; None for nothing.
    """

    def __init__(self, session: Session, worker: int, spawned: bytes) -> None:
        self.session = session
        self.worker = worker
        self.pid, self.arena, self.arena_size = parse_spawned(spawned)
        self._taken = _STRUCT_ROOM
        self.calls: list[object] = []
        self.unsent: Callable[[], None] | None = None
        self._ended: ProcessEnd | None = None
        session.workers[worker] = self

    @classmethod
    def start(cls, session: Session) -> Process:
        """Start one."""
        return cls(session, *session.spawn())

    def __repr__(self) -> str:
        return f"<Process {self.pid}>"

    @property
    def hello(self) -> Hello:
        """What the agent says of its machine."""
        return self.session.hello

    @property
    def numbers(self) -> Mapping[str, int]:
        """System call numbers by name."""
        return self.hello.numbers

    @property
    def alive(self) -> bool:
        """Whether it can be asked: it has not ended, and its machine was not lost."""
        return self.session.workers.get(self.worker) is self

    def scratch(self, size: int) -> int:
        """Return the address of so many bytes of the arena that nothing else has.

        Raises:
            MemoryError: they do not fit into what is left.
        """
        at = self._taken
        if at + size > self.arena_size:
            raise MemoryError(f"{size} bytes do not fit into what is left of the arena")
        self._taken += size + -size % _ALIGN
        return self.arena + at

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
        self._ready()
        watched = self._observed([program])
        payload = self.session.ask(
            Frame(FrameType.RUN, self.worker, payload=program.encode(self.numbers)),
            during or f"a program of {len(program)} ops",
            seconds=seconds,
        )
        results = program.decode(memoryview(payload))[0]
        for taken in watched:
            taken.append(results)
        return results

    def run_parallel(
        self, programs: Sequence[Program], *, seconds: float | None = None, during: object = ""
    ) -> list[list[Result]]:
        """Run programs in threads of this process that start together.

        The arguments and errors are those of run().
        """
        self._ready()
        watched = self._observed(programs)
        request = parallel(program.encode(self.numbers) for program in programs)
        payload = memoryview(
            self.session.ask(
                Frame(FrameType.PARALLEL, self.worker, payload=request),
                during or f"{len(programs)} programs in parallel",
                seconds=seconds,
            )
        )
        results = []
        for program in programs:
            own, payload = program.decode(payload)
            results.append(own)
        for taken in watched:
            taken.extend(results)
        return results

    def _observed(self, programs: Sequence[Program]) -> list[list[list[Result]]]:
        return [each.runs(self, programs) for each in self.session.observers]

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
        at = self.arena + len(name) + -len(name) % _ALIGN
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
        self._ready()
        worker = self.session.free_worker()
        request = Frame(FrameType.FORK, self.worker, payload=worker.to_bytes(4, "little"))
        child = Process(self.session, worker, self.session.ask(request, "forking a process"))
        child.calls = self.calls
        child.arena = self.arena  # numbers that were made of it are known in both
        child._taken = self._taken
        for observer in self.session.observers:
            observer.forks(self, child)
        return child

    def end(self) -> ProcessEnd:
        """Kill it, and wait until the kernel has let go of all it had.

        Raises:
            CallHung: it cannot be killed: it hangs in the kernel. The machine is stopped.
        """
        if self._ended is None:
            for observer in self.session.observers:
                observer.ends(self)
            self._ended = ProcessEnd(None)  # whatever happens now, it is not asked again
            if self.alive:
                del self.session.workers[self.worker]
                status = self.session.ask(
                    Frame(FrameType.END, self.worker), "ending a process", seconds=_KILL_SECONDS
                )
                self._ended = ProcessEnd(parse_status(status))
        return self._ended

    def renew(self) -> None:
        """End it, while it makes no call, and have another started; neither is waited for."""
        if self.alive and self.session.renew(self.worker):
            del self.session.workers[self.worker]
            self._ended = ProcessEnd(None)
        else:
            self.end()

    def note_death(self, status: int | None) -> None:
        """Remember that it ended by itself."""
        self._ended = ProcessEnd(status)

    def settle(self) -> None:
        """Run what waits for the next program; what that raises is its own."""
        unsent, self.unsent = self.unsent, None
        if unsent:
            unsent()

    def _ready(self) -> None:
        self.settle()
        if self._ended is not None:
            status = self._ended.status
            raise ProcessDied(f"{self!r} {describe_status(status)} earlier", status=status)
        if not self.alive:
            raise ProcessDied(f"{self!r} has gone: its machine was lost", status=None)
