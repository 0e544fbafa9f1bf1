# SPDX-License-Identifier: GPL-2.0-only
"""Where a number came from: what an earlier call gave, a place in memory, or the test itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(eq=False)
class Variable:
    """Something with a name.

    Attributes:
        name: in the program.
        owner: the number of the process that has it.
        number: how many variables were there before it.
    """

    name: str
    owner: int = 0
    number: int = 0


@dataclass(eq=False)
class Handle(Variable):
    """What a system call returned: a file descriptor, mostly."""


@dataclass(eq=False)
class Record(Variable):
    """A struct of the kernel's headers.

    Attributes:
        type: its name in the headers.
        size: its size in bytes, without the tail.
        fields: those that are not zero, by their path: `check_map.iova`.
        tail: bytes behind it.
        content: all of its bytes as they were given, the tail's too.
    """

    type: str = ""
    size: int = 0
    fields: Sequence[tuple[str, Value]] = ()
    tail: bytes = b""
    content: bytes = b""


@dataclass(eq=False)
class Memory(Variable):
    """Bytes with an address.

    Attributes:
        address: in the test.
        size: bytes.
        mapped: whether a call mapped it; else it is the program's own.
        content: what the program's own has at first.
        fixups: values in it that are not the same in each run, by offset: addresses and files.
        text: whether it is a string.
    """

    address: int = 0
    size: int = 0
    mapped: bool = False
    content: bytes = b""
    fixups: list[tuple[int, Value]] = field(default_factory=list)
    text: bool = False


@dataclass(frozen=True)
class Number:
    """A number of the test's own.

    Attributes:
        value: it.
        names: the headers' names for it and for its bits, in C.
        wide: whether it is an address or a length of memory.
    """

    value: int
    names: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Out:
    """What the kernel wrote into a field, plus an offset.

    Attributes:
        record: the struct.
        path: the field.
        value: what it was in the test.
        offset: added to it.
    """

    record: Record
    path: str
    value: int
    offset: int = 0


@dataclass(frozen=True)
class Returned:
    """What a system call returned."""

    handle: Handle
    value: int


@dataclass(frozen=True)
class Place:
    """An address: so many bytes into some memory, or into a struct."""

    memory: Memory | Record
    offset: int = 0
    value: int = 0


@dataclass(frozen=True)
class Size:
    """The size of a struct."""

    record: Record


Value = Number | Out | Returned | Place | Size


@dataclass
class Space:
    """What the numbers of one process mean.

    Attributes:
        owner: the process.
        ancestors: what it was forked from, and when: how many variables there were.
        files: its file descriptors, by number.
        regions: mapped memory, the newest last.
        own: structs and bytes that the program has itself, by the address they had in the test.
    """

    owner: int = 0
    ancestors: dict[int, int] = field(default_factory=dict)
    files: dict[int, Value] = field(default_factory=dict)
    regions: list[Memory] = field(default_factory=list)
    own: dict[int, Memory | Record] = field(default_factory=dict)

    def forked(self, owner: int, variables: int) -> Space:
        """Return what a copy of the process knows, when there are so many variables."""
        ancestors = self.ancestors | {self.owner: variables}
        return Space(owner, ancestors, dict(self.files), list(self.regions), dict(self.own))

    def knows(self, variable: Variable) -> bool:
        """Tell whether the process has a variable: its own, or one from before its fork."""
        if variable.owner == self.owner:
            return True
        return variable.number < self.ancestors.get(variable.owner, 0)

    def place(self, address: int) -> Place | None:
        """Tell what is at an address, or ends there; None when nothing is known to."""
        found = self._own(address)
        if found:
            return found
        for slack in (0, 1):
            for region in reversed(self.regions):
                if region.address <= address < region.address + region.size + slack:
                    return Place(region, address - region.address, address)
        return None

    def _own(self, address: int) -> Place | None:
        for start, memory in self.own.items():
            size = memory.size + (len(memory.tail) if isinstance(memory, Record) else 0)
            if start <= address < start + max(size, 1):
                return Place(memory, address - start, address)
        return None

    def bind(self, address: int, memory: Memory | Record, size: int) -> None:
        """Have bytes take the place of what was there."""
        for start in list(self.own):
            old = self.own[start]
            if start < address + size and address < start + old.size:
                del self.own[start]
        self.own[address] = memory


def variable_of(value: Value) -> Variable | None:
    """Return the variable that a value is made of, None for a number."""
    match value:
        case Out(record=record) | Size(record=record):
            return record
        case Returned(handle=handle):
            return handle
        case Place(memory=memory):
            return memory
    return None
