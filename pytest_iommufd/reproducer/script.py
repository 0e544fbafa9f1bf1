# SPDX-License-Identifier: GPL-2.0-only
"""A program that does what a test did, in no language yet."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer.values import Variable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_iommufd.reproducer.values import Handle, Memory, Place, Record, Value


class Unfit(Exception):  # noqa: N818 - it is no error, but a form that cannot have this
    """The form has no words for what the test did; its text says for what."""


@dataclass
class Declare:
    """A struct, or bytes of the program's own, with what it has at first."""

    variable: Memory


@dataclass
class Store:
    """Bytes put into memory: a struct's, or some with what calls gave among them."""

    place: Place
    record: Record | None = None
    content: bytes = b""
    fixups: Sequence[tuple[int, Value]] = ()


@dataclass
class Copy:
    """A copy in memory."""

    to: Value
    source: Value
    size: int


@dataclass
class Call:
    """A system call.

    Attributes:
        name: its name, or its number.
        title: how reports call it: an ioctl's name.
        args: its arguments.
        errno: what it gave in the test: a name, or "OK"; "" when it did not return.
        ret: what it returned; None where that differs from run to run.
        wants: what the rule wants: an errno's name or "OK"; "" where it is but a step.
        handle: takes what it returned.
        maps: the memory that it mapped.
        repeat: how often it is made.
        fail_nth: which fault injection point in it must fail, 0 for none.
        fired: whether it did.
        free: whether its outcome may differ from run to run: threads race.
    """

    name: str
    title: str
    args: list[Value]
    errno: str
    ret: int | None = None
    wants: str = ""
    handle: Handle | None = None
    maps: Memory | None = None
    repeat: int = 1
    fail_nth: int = 0
    fired: bool = False
    free: bool = False

    @property
    def returned(self) -> bool:
        """Whether it returned in the test."""
        return bool(self.errno)

    @property
    def broke(self) -> bool:
        """Whether it gave something else in the test than the rule wants."""
        return bool(self.wants) and self.returned and self.errno != self.wants


@dataclass
class Compare:
    """Fields that the kernel wrote, and what they were in the test."""

    record: Record
    fields: Sequence[tuple[str, Value]]


@dataclass
class CompareBytes:
    """Memory that the test read, and what was there."""

    place: Place
    content: bytes


@dataclass
class CompareLine:
    """A line of a text that the test read, which must be there again."""

    place: Place
    line: bytes


@dataclass
class Threads:
    """Statements of threads that start together."""

    threads: list[list[Statement]] = field(default_factory=list)


@dataclass
class Fork:
    """A process's copy; it does its statements, a turn each, when it is let."""

    number: int
    turns: list[list[Statement]] = field(default_factory=list)


@dataclass
class Turn:
    """A forked process does what comes next of it."""

    number: int


@dataclass
class Kill:
    """A forked process is killed."""

    number: int


Comparison = Compare | CompareBytes | CompareLine
Statement = Declare | Store | Copy | Call | Comparison | Threads | Fork | Turn | Kill


def flat(statements: Iterable[Statement]) -> Iterator[Statement]:
    """Return all statements, those of threads and forks too."""
    for one in statements:
        yield one
        inner = one.threads if isinstance(one, Threads) else []
        inner = one.turns if isinstance(one, Fork) else inner
        for some in inner:
            yield from flat(some)


def calls(statements: Iterable[Statement]) -> Iterator[Call]:
    """Return all calls among statements."""
    return (one for one in flat(statements) if isinstance(one, Call))


def tidy(statements: list[Statement]) -> None:
    """Remove what is declared and never used, and give each variable a name of its own."""
    while unused := _declared(statements) - _used(statements):
        _remove(statements, unused)
    counts: dict[str, int] = {}
    seen: set[int] = set()
    for one in flat(statements):
        for variable in _variables(one):
            if id(variable) not in seen:
                seen.add(id(variable))
                count = counts[variable.name] = counts.get(variable.name, 0) + 1
                variable.name += f"_{count}" if count > 1 else ""


def _declared(statements: list[Statement]) -> set[int]:
    found = {id(one.variable) for one in flat(statements) if isinstance(one, Declare)}
    return found | {id(call.handle) for call in calls(statements) if call.handle}


def _used(statements: list[Statement]) -> set[int]:
    found: set[int] = set()
    for one in flat(statements):
        own = one.variable if isinstance(one, Declare) else getattr(one, "handle", None)
        found |= {id(variable) for variable in _variables(one) if variable is not own}
    return found


def _remove(statements: list[Statement], unused: set[int]) -> None:
    for one in statements:
        if isinstance(one, Call) and id(one.handle) in unused:
            one.handle = None
        for some in one.threads if isinstance(one, Threads) else []:
            _remove(some, unused)
        for some in one.turns if isinstance(one, Fork) else []:
            _remove(some, unused)
    statements[:] = [
        one for one in statements if not (isinstance(one, Declare) and id(one.variable) in unused)
    ]


def _variables(part: object) -> Iterator[Variable]:
    """Return the variables in a statement or in a value, but for those of statements within."""
    if isinstance(part, Declare):
        yield part.variable
        yield from _variables([part.variable.fixups, getattr(part.variable, "fields", ())])
    elif isinstance(part, Variable):
        yield part
    elif isinstance(part, list | tuple):
        for one in part:
            yield from _variables(one)
    elif is_dataclass(part) and not isinstance(part, Threads | Fork):
        for each in fields(part):
            yield from _variables(getattr(part, each.name))


# How a program tells whether the kernel behaves.
BY_CALLS = "calls"  # by what the judged calls give
BY_SAMENESS = "same"  # what the test found wrong is more than a program can tell: it is so again
BY_RETURN = "returns"  # the last call must return
BY_LOG = "log"  # the kernel must print no splat
BY_DEVICES = "devices"  # no mock device may be left


MADE = "Made by pytest-iommufd"
"""Begins a line at the top of each file, by which it is known later."""


@dataclass
class Header:
    """What a reader must know of a program.

    Attributes:
        slug: the rule, or the test's name.
        says: the rule's sentence.
        sources: where the rule is from.
        promises: who promises it, with a link.
        kernel: name, release and source of the kernel that the test ran on.
        defect: what is known to be wrong in the kernel and has shown itself, "" for nothing.
        result: what the test came to: "passed", or how it failed.
        command: what runs the test again.
        file: the program's own name.
    """

    slug: str
    says: str
    sources: Sequence[str]
    kernel: str
    result: str
    command: str
    promises: Sequence[str] = ()
    defect: str = ""
    file: str = ""

    def lines(self) -> list[str]:
        """Return what each form says at its top, the rule first."""
        return [
            f"{self.slug}: {self.says}" if self.says else self.slug,
            *([f"Source: {'; '.join(self.sources)}"] if self.sources else []),
            *(f"Promised by: {promise}" for promise in self.promises),
            *([f"Known defect: {self.defect}"] if self.defect else []),
            f"Kernel: {self.kernel}",
            f"Test: {self.result}",
            f"Again: {self.command}",
            f"{MADE}, which replaces this file when it makes it again",
        ]


@dataclass
class Script:
    """A whole program.

    Attributes:
        statements: what it does.
        verdict: how it tells what it comes to: one of the BY_ constants.
        failed: how the test failed, "" when it passed.
        lost: what of the test is not in it, in sentences.
    """

    statements: list[Statement]
    verdict: str
    failed: str = ""
    lost: list[str] = field(default_factory=list)
