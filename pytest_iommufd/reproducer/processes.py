# SPDX-License-Identifier: GPL-2.0-only
"""Which process and which thread of a program does what.

The test's own process is the program. Each other one is a fork of it, which gets turns. One that
shares nothing with it is forked before anything is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.values import Space

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process
    from pytest_iommufd.reproducer.trace import Event


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
        self._threads = 0

    def space(self, process: Process) -> Space:
        """Return what numbers mean in a process."""
        if id(process) not in self._spaces:
            number = len(self._spaces)
            self._spaces[id(process)] = Space(number)
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
        self._spaces[id(event.child)] = space.forked(number, self.variables)
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
        return self._thread(event, here) if event.threads else here

    def _thread(self, event: Event, here: list[s.Statement]) -> list[s.Statement]:
        last = here[-1] if here else None
        if not isinstance(last, s.Threads) or self._threads != event.threads:
            last = s.Threads()
            here.append(last)
            self._threads = event.threads
        while len(last.threads) <= event.thread:
            last.threads.append([])
        return last.threads[event.thread]
