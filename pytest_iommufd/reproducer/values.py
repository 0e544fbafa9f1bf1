# SPDX-License-Identifier: GPL-2.0-only
"""What a number is: what an earlier call gave, a place in memory, or the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """What a system call returned, a file descriptor mostly; `path` is another file's than ours."""

    path: str = ""


@dataclass(eq=False)
class Memory(Variable):
    """Bytes with an address.

    Attributes:
        size: how many.
        mapped: whether a call mapped it; else it is the program's own.
        content: what the program's own has at first.
        fixups: values in it that calls gave, by offset.
        records: structs in it, by offset.
        text: whether it is a string.
        foreign: whether what is in it is not of iommufd, and differs from run to run.
    """

    size: int = 0
    mapped: bool = False
    content: bytes = b""
    fixups: list[tuple[int, Value]] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    text: bool = False
    foreign: bool = False


@dataclass(eq=False)
class Record(Memory):
    """A struct of the kernel's headers, with what is behind it.

    Attributes:
        type: its name in the headers.
        fields: those that are not zero, by their path: `check_map.iova`.
        tail: bytes behind it.
        leaves: path and value of what is at an offset, as the kernel left it.
    """

    type: str = ""
    fields: list[tuple[str, Value]] = field(default_factory=list)
    tail: bytes = b""
    leaves: dict[int, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records[0] = self


@dataclass(frozen=True)
class Number:
    """A number of the test's own; `names` are the headers' for it or for its bits, in C."""

    value: int
    names: str = ""


@dataclass(frozen=True)
class Out:
    """What a call gave, plus an offset.

    Attributes:
        variable: a struct, or what a call returned.
        path: of a struct, the field.
        offset: added to it.
        value: what that was in the test.
    """

    variable: Variable
    path: str = ""
    offset: int = 0
    value: int = 0


@dataclass(frozen=True)
class Place:
    """An address: so many bytes into some memory."""

    memory: Memory
    offset: int = 0
    value: int = 0

    @property
    def record(self) -> Record | None:
        """The struct that is there."""
        return self.memory.records.get(self.offset)


@dataclass(frozen=True)
class Size:
    """The size of a struct."""

    record: Record

    @property
    def value(self) -> int:
        """What it is."""
        return self.record.size


Value = Number | Out | Place | Size
