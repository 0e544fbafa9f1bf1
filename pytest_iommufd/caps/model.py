# SPDX-License-Identifier: GPL-2.0-only
"""What was asked of kernels, and what they answered."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


COMMANDS = "commands"
"""What a Key of a command is about."""
MOCK = "mock"
"""The device of a Key that is a mock device of iommufd_test."""


class State(enum.Enum):
    """What a kernel's answer comes to."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "not known"


class Key(NamedTuple):
    """One thing to ask about.

    Attributes:
        about: what it belongs to: "commands", or a field such as "IOMMU_IOAS_MAP.flags".
        name: the command, the constant or the property.
        device: what was asked about it with: "" for nothing, "mock" for a mock device of
            iommufd_test, else the IOMMU of a real device, "intel" or "amd".
    """

    about: str
    name: str
    device: str = ""


@dataclass(frozen=True)
class Answer:
    """What a kernel answered to one thing.

    Attributes:
        state: whether it has it.
        value: what it tells of it, such as a size; "" where there is no more to it than the state.
        why: the errno that says so, or why it is not known.
        declared: whether the kernel's own header declares it; None where it has no header here, or
            where this is nothing that a header declares.
    """

    state: State
    value: str = ""
    why: str = ""
    declared: bool | None = None


@dataclass
class Column:
    """What one kernel answered.

    Attributes:
        spec: the kernel as the user named it.
        name: its name in tables.
        release: `uname -r`.
        source: where it is from.
        acceleration: how its guest ran.
        answers: all of its answers, in the order in which they were asked.
        absent: why it has no iommufd at all, "" if it has.
        unasked: of a device that it could not be asked with, why.
    """

    spec: str
    name: str
    release: str
    source: str
    acceleration: str
    answers: dict[Key, Answer] = field(default_factory=dict)
    absent: str = ""
    unasked: dict[str, str] = field(default_factory=dict)

    def answer(self, key: Key) -> Answer:
        """Return the answer to one thing.

        Args:
            key: the thing. What belongs to a command that the kernel does not have is answered by
                that; of what was not asked, the answer says why it is not known.
        """
        if key in self.answers:
            return self.answers[key]
        if self.absent:
            return Answer(State.NO, why=self.absent)
        for owner in (key.about, key.name):
            command = self.answers.get(Key(COMMANDS, owner.partition(".")[0]))
            if command and command.state is State.NO:
                return Answer(State.NO, why=command.why)
        return Answer(State.UNKNOWN, why=self.unasked.get(key.device, "it was not asked"))


@dataclass(frozen=True)
class Row:
    """What all kernels answered to one thing.

    Attributes:
        key: the thing.
        answers: one of each kernel, in their order.
    """

    key: Key
    answers: tuple[Answer, ...]

    @property
    def differs(self) -> bool:
        """Whether kernels answered differently, or their headers declare differently."""
        known = {(each.state, each.value) for each in self.answers if each.state != State.UNKNOWN}
        declared = {each.declared for each in self.answers} - {None}
        return len(known) > 1 or len(declared) > 1


def rows(columns: Sequence[Column]) -> list[Row]:
    """Put the kernels' answers side by side.

    Args:
        columns: the kernels.

    Returns:
        A row of each thing, those about one subject together. Of a number without a name, only
        those that some kernel accepts.
    """
    subjects: dict[tuple[str, str], dict[Key, None]] = {}
    for column in columns:
        for key in column.answers:
            subjects.setdefault((key.device, key.about), {})[key] = None
    made = [
        Row(key, tuple(column.answer(key) for column in columns))
        for keys in subjects.values()
        for key in keys
    ]
    return [
        row
        for row in made
        if not is_number(row.key.name) or any(each.state is State.YES for each in row.answers)
    ]


def is_number(name: str) -> bool:
    """Tell whether a row is about a number that no header gives a name."""
    return name.startswith("0x")
