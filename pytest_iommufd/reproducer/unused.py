# SPDX-License-Identifier: GPL-2.0-only
"""Leaves out what is declared and not used, so that compilers are content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.values import Memory, Record, variable_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.reproducer.values import Value, Variable


def without_unused(statements: list[s.Statement]) -> list[s.Statement]:
    """Return statements without declarations of what none of them uses."""
    while True:
        used = {id(variable) for one in s.flat(statements) for variable in _used(one)}
        before = len(list(s.flat(statements)))
        statements = _filtered(statements, used)
        if len(list(s.flat(statements))) == before:
            return statements


def _filtered(statements: list[s.Statement], used: set[int]) -> list[s.Statement]:
    for one in statements:
        if isinstance(one, s.Threads):
            one.threads = [_filtered(thread, used) for thread in one.threads]
        elif isinstance(one, s.Fork):
            one.turns = [_filtered(turn, used) for turn in one.turns]
    return [one for one in statements if not isinstance(one, s.Declare) or id(one.variable) in used]


def _used(one: s.Statement) -> Iterator[Variable]:
    """Return the variables that a statement uses, other than by declaring them."""
    if isinstance(one, s.Compare):
        yield one.record
    if isinstance(one, s.Store) and one.record:
        yield one.record
    for value in _values(one):
        found = variable_of(value)
        if found is not None and not (isinstance(one, s.Declare) and found is one.variable):
            yield found


def _values(one: s.Statement) -> list[Value]:
    found: list[Value] = []
    match one:
        case s.Declare(variable=Record(fields=fields)):
            found = [value for _, value in fields]
        case s.Declare(variable=Memory(fixups=fixups)):
            found = [value for _, value in fixups]
        case s.Store():
            found = [one.place, *(value for _, value in one.fixups)]
        case s.Copy():
            found = [one.to, one.source]
        case s.Call():
            found = list(one.args)
        case s.CompareBytes():
            found = [one.place]
    return found
