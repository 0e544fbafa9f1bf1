# SPDX-License-Identifier: GPL-2.0-only
"""What processes did while a test ran, in its order."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import OpKind, Ref
from pytest_iommufd.iommufd.expecting import Block, open_blocks
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_iommufd.agent.protocol import Op, Program, Result
    from pytest_iommufd.machine import Process

SETUP, CALL, TEARDOWN = "setup", "call", "teardown"
OK = "OK"
_MOST_THREADS = 1000
# What a rule can be about.
_ASKS = {"ioctl", "read", "write", "ppoll", "mmap"}


@dataclass
class Event:
    """One op of a process, a fork, or an end.

    Attributes:
        process: whose.
        phase: of the test: SETUP, CALL or TEARDOWN.
        op: the op; None for a fork or an end.
        args: its arguments, as numbers.
        result: what it gave; None when it did not return.
        program: a number for each program: its ops went to the kernel together.
        threads: a number for each run of several programs in parallel, 0 for none.
        thread: which of those programs it is of.
        child: of a fork, the new process.
        wants: what the rule wants it to give, "OK" or an errno's name; "" for nothing special.
    """

    process: Process
    phase: str
    op: Op | None = None
    args: tuple[int, ...] = ()
    result: Result | None = None
    program: int = 0
    threads: int = 0
    thread: int = 0
    child: Process | None = None
    wants: str = ""

    @property
    def is_call(self) -> bool:
        """Whether it is a system call that was made."""
        return (
            self.op is not None
            and self.op.kind is OpKind.SYSCALL
            and (self.result is None or self.result.errno != errno.ECANCELED)
        )

    @property
    def call(self) -> str:
        """The name of a system call, or its number in decimal; "" for another op."""
        if self.op is None or self.op.kind is not OpKind.SYSCALL:
            return ""
        if isinstance(self.op.call, str):
            return self.op.call
        names = {number: name for name, number in self.process.numbers.items()}
        return names.get(self.op.call, str(self.op.call))


@dataclass
class _Run:
    process: Process
    phase: str
    programs: list[tuple[Op, ...]]
    blocks: tuple[Block, ...]
    results: list[list[Result]] = field(default_factory=list)


@dataclass
class _Change:
    process: Process
    phase: str
    child: Process | None = None


class Trace:
    """Sees what processes do; an observer of the machine of a test.

    Attributes:
        phase: the phase of the test that comes next.
    """

    def __init__(self) -> None:
        self.phase = SETUP
        self._parts: list[_Run | _Change] = []

    def runs(self, process: Process, programs: Sequence[Program]) -> list[list[Result]]:
        """Note programs that start now, and return the list that takes their results."""
        run = _Run(process, self.phase, [program.ops for program in programs], open_blocks())
        self._parts.append(run)
        return run.results

    def forks(self, process: Process, child: Process) -> None:
        """Note a fork."""
        self._parts.append(_Change(process, self.phase, child))

    def ends(self, process: Process) -> None:
        """Note that a process is killed."""
        self._parts.append(_Change(process, self.phase))

    @property
    def judges(self) -> bool:
        """Whether the test said which calls it is about."""
        return any(isinstance(part, _Run) and part.blocks for part in self._parts)

    def events(self) -> list[Event]:
        """Return all that was done, but for what fixtures asked by processes of their own."""
        events: list[Event] = []
        judged: dict[Block, list[Event]] = {}
        for number, part in enumerate(self._parts, 1):
            made = list(_events(part, number))
            events += made
            for block in part.blocks if isinstance(part, _Run) else ():
                judged.setdefault(block, []).extend(made)
        for block, within in judged.items():
            _judge(within, block.wants)
        asked = _questions(events)
        return [event for event in events if id(event.process) not in asked]


def _events(part: _Run | _Change, number: int) -> Iterator[Event]:
    if isinstance(part, _Change):
        yield Event(part.process, part.phase, child=part.child)
        return
    threads = number if len(part.programs) > 1 else 0
    for thread, ops in enumerate(part.programs):
        results = part.results[thread] if thread < len(part.results) else None
        for index, op in enumerate(ops):
            yield Event(
                part.process,
                part.phase,
                op,
                tuple(_number(arg, results) for arg in op.args),
                results[index] if results else None,
                program=number * _MOST_THREADS + thread,
                threads=threads,
                thread=thread,
            )


def _number(arg: int | Ref, results: Sequence[Result] | None) -> int:
    if isinstance(arg, Ref):
        return (results[arg.index].ret if results else 0) + arg.offset
    return arg


def _judge(events: list[Event], wants: tuple[str, ...]) -> None:
    """Mark calls of a block: all of one that must succeed, of one that must fail the one that did.

    A test may make other calls there: it protects memory, say, and then undoes that.
    """
    calls = [event for event in events if event.is_call]
    if wants == (OK,):
        for event in calls:
            event.wants = OK
        return
    given = [(event, outcome(event)) for event in calls]
    found = (
        [event for event, gave in given if gave in wants]
        or [event for event, gave in given if gave != OK]
        or [event for event in calls if event.call in _ASKS]
    )
    if found:
        gave = outcome(found[-1])
        found[-1].wants = gave if gave in wants else wants[0]


def outcome(event: Event) -> str:
    """Return what a call gave: "OK", or an errno's name; "" when it did not return."""
    if event.result is None:
        return ""
    return errno_name(event.result.errno) if event.result.errno else OK


def _questions(events: list[Event]) -> set[int]:
    """Return the processes that were made, and ended, before the test itself began."""
    ended = {
        id(event.process)
        for event in events
        if event.op is None and event.child is None and event.phase == SETUP
    }
    forked = {id(event.child) for event in events if event.child}
    return ended - forked
