# SPDX-License-Identifier: GPL-2.0-only
"""Which process and which thread of a program does what.

The test's own process is the program. Each other one is a fork of it, which gets turns. One that
shares nothing with it is forked before anything is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer import script as s

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process
    from pytest_iommufd.reproducer.trace import Event
    from pytest_iommufd.reproducer.values import Memory, Variable


@dataclass
class Space:
    """What a process has.

    Attributes:
        owner: its number.
        ancestors: what it was forked from, and when: how many variables there were.
        arena: variables of the program's own, by the place in the arena that they had in the test.
    """

    owner: int
    ancestors: dict[int, int] = field(default_factory=dict)
    arena: dict[int, Memory] = field(default_factory=dict)

    def knows(self, variable: Variable) -> bool:
        """Tell whether it has a variable: its own, or one from before its fork."""
        if variable.owner == self.owner:
            return True
        return variable.number < self.ancestors.get(variable.owner, 0)

    def at(self, offset: int) -> tuple[Memory, int] | None:
        """Return what was last put at a place in the arena, and how far within that it is."""
        for start, memory in self.arena.items():
            if start <= offset < start + max(memory.size, 1):
                return memory, offset - start
        return None

    def put(self, offset: int, memory: Memory) -> None:
        """Have a variable take the place of what was there."""
        end = offset + max(memory.size, 1)
        for start, old in list(self.arena.items()):
            if start < end and offset < start + old.size:
                del self.arena[start]
        self.arena[offset] = memory


class Processes:
    """The processes of a program, and the statements of each.

    Args:
        lost: takes what cannot be told.

    Attributes:
        statements: those of the first process.
        variables: how many there are in all processes.
    """

    def __init__(self, lost: list[str]) -> None:
        self.statements: list[s.Statement] = []
        self.variables = 0
        self._lost = lost
        self._spaces: dict[int, Space] = {}
        self._forks: dict[int, s.Fork] = {}
        self._orphans: set[int] = set()
        self._turn = (0, 0)
        self._threads: object = None

    def space(self, process: Process) -> Space:
        """Return what a process has."""
        if id(process) not in self._spaces:
            number = len(self._spaces)
            self._spaces[id(process)] = Space(number, {0: 0} if number else {})
            if number:
                self._forks[number] = s.Fork(number)
                self.statements.insert(0, self._forks[number])
        return self._spaces[id(process)]

    def change(self, event: Event) -> None:
        """Note a fork or an end."""
        space = self.space(event.process)
        if event.child is None:
            if space.owner and space.owner not in self._orphans:
                self.statements.append(s.Kill(space.owner))
            return
        number = len(self._spaces)
        ancestors = space.ancestors | {space.owner: self.variables}
        self._spaces[id(event.child)] = Space(number, ancestors, dict(space.arena))
        self._forks[number] = s.Fork(number)
        if space.owner:
            self._orphans.add(number)
            self._lost.append("A forked process forks again; what the new one does is left out.")
        else:
            self.statements.append(self._forks[number])

    def place_for(self, event: Event) -> list[s.Statement]:
        """Return the list that an event's statements belong to."""
        owner = self.space(event.process).owner
        here = self.statements
        if owner in self._orphans:
            return []
        if owner:
            turns = self._forks[owner].turns
            if self._turn != (owner, len(here)):
                turns.append([])
                here.append(s.Turn(owner))
                self._turn = (owner, len(here))
            here = turns[-1]
        return self._thread(event, here) if event.parallel else here

    def _thread(self, event: Event, here: list[s.Statement]) -> list[s.Statement]:
        last = here[-1] if here else None
        if not isinstance(last, s.Threads) or self._threads is not event.results:
            last = s.Threads()
            here.append(last)
            self._threads = event.results
        while len(last.threads) <= event.thread:
            last.threads.append([])
        return last.threads[event.thread]
