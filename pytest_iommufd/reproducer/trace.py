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
    from collections.abc import Iterable, Sequence

    from pytest_iommufd.agent.protocol import Op, Program, Result
    from pytest_iommufd.machine import Process

SETUP, CALL, TEARDOWN = "setup", "call", "teardown"
OK = "OK"
# What a rule can be about.
_ASKS = {"ioctl", "read", "write", "ppoll", "mmap"}


@dataclass
class Event:
    """One op of a process, a fork, or an end.

    Attributes:
        process: whose.
        phase: of the test: SETUP, CALL or TEARDOWN.
        op: the op; None for a fork or an end.
        index: which of its program it is.
        parallel: whether its program ran in parallel with others.
        thread: which of those it is.
        results: theirs; empty when they did not return.
        blocks: what the test expected of calls when it made them.
        child: of a fork, the new process.
        wants: what the rule wants it to give, "OK" or an errno's name; "" for nothing special.
    """

    process: Process
    phase: str
    op: Op | None = None
    index: int = 0
    parallel: bool = False
    thread: int = 0
    results: list[list[Result]] = field(default_factory=list)
    blocks: tuple[Block, ...] = ()
    child: Process | None = None
    wants: str = ""

    @property
    def result(self) -> Result | None:
        """What it gave; None when it did not return."""
        return self.results[self.thread][self.index] if self.results else None

    @property
    def args(self) -> list[int]:
        """Its arguments, as numbers."""
        return [
            arg if not isinstance(arg, Ref) else self._ret(arg.index) + arg.offset
            for arg in (self.op.args if self.op else ())
        ]

    def _ret(self, index: int) -> int:
        return self.results[self.thread][index].ret if self.results else 0

    @property
    def is_call(self) -> bool:
        """Whether it is a system call that was made."""
        is_call = self.op is not None and self.op.kind is OpKind.SYSCALL
        return is_call and (self.result is None or self.result.errno != errno.ECANCELED)

    @property
    def call(self) -> str:
        """The name of a system call, or its number in decimal; "" for another op."""
        if self.op is None or self.op.kind is not OpKind.SYSCALL:
            return ""
        names: dict[str | int, str] = {at: name for name, at in self.process.numbers.items()}
        return names.get(self.op.call, str(self.op.call))


class Trace:
    """Sees what processes do; an observer of the machine of a test.

    Attributes:
        phase: the phase of the test that comes next.
    """

    def __init__(self) -> None:
        self.phase = SETUP
        self._events: list[Event] = []
        self._wanted: dict[int, str] = {}

    def judge(self, results: Iterable[Result], wants: str) -> None:
        """Note what a rule wants calls to give that a test has judged after it made them.

        Args:
            results: what they gave, the same objects that they were returned with.
            wants: "OK" or an errno's name.
        """
        self._wanted |= dict.fromkeys(map(id, results), wants)

    def runs(self, process: Process, programs: Sequence[Program]) -> list[list[Result]]:
        """Note programs that start now, and return the list that takes their results."""
        results: list[list[Result]] = []
        self._events += [
            Event(process, self.phase, op, index, len(programs) > 1, thread, results, open_blocks())
            for thread, program in enumerate(programs)
            for index, op in enumerate(program.ops)
            if not program.aside
        ]
        return results

    def forks(self, process: Process, child: Process) -> None:
        """Note a fork."""
        self._events.append(Event(process, self.phase, child=child))

    def ends(self, process: Process) -> None:
        """Note that a process is killed."""
        self._events.append(Event(process, self.phase))

    @property
    def judges(self) -> bool:
        """Whether the test said which calls it is about."""
        return bool(self._wanted) or any(event.blocks for event in self._events)

    def events(self) -> list[Event]:
        """Return all that was done, but for what fixtures asked by processes of their own."""
        judged: dict[Block, list[Event]] = {}
        for event in self._events:
            for block in event.blocks:
                judged.setdefault(block, []).append(event)
        for block, within in judged.items():
            _judge(within, block.wants)
        for event in self._events:
            if event.is_call:
                event.wants = self._wanted.get(id(event.result), event.wants)
        asked = _questions(self._events)
        return [event for event in self._events if id(event.process) not in asked]


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
