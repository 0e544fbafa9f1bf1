# SPDX-License-Identifier: GPL-2.0-only
"""Which variable of the program has a number that a call gave in the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.given import Given
from pytest_iommufd.reproducer.values import Memory, Number, Out, Place, Record

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process
    from pytest_iommufd.reproducer.processes import Space
    from pytest_iommufd.reproducer.values import Value, Variable


class Origins:
    """What the calls so far gave; a number that remembers none of them is a number.

    Attributes:
        arena: scratch memory, but for what variables of their own have the place of.
    """

    def __init__(self) -> None:
        self.arena = Memory("arena", number=-1)
        # by what the numbers remember, which is kept, so that no other object has its id
        self._variables: dict[int, tuple[object, Variable]] = {}

    def note(self, source: object, variable: Variable) -> None:
        """Note which variable has what numbers remember: a struct, or what stands for a value."""
        self._variables[id(source)] = (source, variable)

    def value(self, number: int, process: Process, space: Space, names: str = "") -> Value:
        """Return what a number is for a process; one of its own may have names in C."""
        plain = Number(int(number), names)
        if not isinstance(number, Given):
            return plain
        if (offset := self.in_arena(number, process)) is not None:
            self.arena.size = process.arena_size
            return Place(*space.at(offset) or (self.arena, offset), plain.value)
        _, variable = self._variables.get(id(number.source), (None, None))
        if variable is None or not space.knows(variable):
            return plain
        if not isinstance(variable, Record):
            kind = Place if isinstance(variable, Memory) else Out
            return kind(variable, offset=number.offset, value=plain.value)  # type: ignore[arg-type]
        path, value = variable.leaves.get(number.at, ("", 0))
        # the test may have been given something else than what is there by now
        is_there = bool(path) and value + number.offset == number
        return Out(variable, path, number.offset, plain.value) if is_there else plain

    @staticmethod
    def in_arena(number: int, process: Process) -> int | None:
        """Return how far into a process's arena an address is, None for any other number."""
        is_of_it = isinstance(number, Given) and number.source is process.arena.source
        return number - process.arena if is_of_it else None
