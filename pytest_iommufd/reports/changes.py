# SPDX-License-Identifier: GPL-2.0-only
"""What changed between kernels, as a page: text for a terminal, or Markdown.

What came with a capability is counted. Of all else each rule has a row, with a column for each
kernel: as stable releases have what higher versions do not, no order is that of one branch.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.reports.history import differ
from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pytest_iommufd.reports.history import Given, History, RuleHistory

_BAD = {Mark.DEFECT, Mark.VIOLATED, Mark.CRASHED}
# A rule is in the first list that takes its marks, and the one of the newest kernel that ran it.
_LISTS: Mapping[str, Callable[[set[Mark], Mark], bool]] = {
    "Mended": lambda marks, newest: bool(marks & _BAD) and newest not in _BAD | {Mark.ABSENT},
    "Defects of the newest kernel that another does not have": lambda _, newest: newest in _BAD,
    "Behaviour that nobody has promised": lambda marks, newest: (
        Mark.DIFFERS in marks and newest is not Mark.ABSENT
    ),
    "Absent from the newest kernel": lambda _, newest: newest is Mark.ABSENT,
    "Other results, each as expected of its kernel": lambda *_: True,
}
# What fixtures/rules.py says of a command, constant or field that a kernel does not have.
_LACKED = re.compile(r"the kernel(?:'s header does not define| has no) (\S+)(?: \(ENOTTY\))?")
_TITLE = "What changed of iommufd between kernels"
_LEAD = (
    "What rules of the suites gave on real kernels, where that is not the same on all. "
    "Kernels are in the order of their versions, which is not the history of one branch: "
    "a stable release may have what a higher version does not have."
)
_NOTE = "<!-- SPDX-License-Identifier: GPL-2.0-only. `pytest-iommufd history` makes this page. -->"


@dataclass(frozen=True)
class _Row:
    """A rule with what it gave on each kernel, and why."""

    slug: str
    says: str
    cells: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _Part:
    """A part of the page: lines, or rows of a table."""

    title: str
    lines: tuple[str, ...] = ()
    rows: tuple[_Row, ...] = ()


def text(history: History, *, each: bool = False) -> str:
    """Return the page for a terminal.

    Args:
        history: what changed.
        each: name each of the rules that came with a capability.
    """
    blocks = [textwrap.fill(_LEAD, 100)]
    for part in _parts(history, each=each):
        lines = [f"  {line}" for line in part.lines]
        if part.rows:
            table = [["", *history.kernels], *([row.slug, *row.cells] for row in part.rows)]
            widths = [max(map(len, column)) for column in zip(*table, strict=True)]
            head, *rest = ("  ".join(["", *map(str.ljust, row, widths)]).rstrip() for row in table)
            lines.append(head)
            for line, row in zip(rest, part.rows, strict=True):
                lines += [line, *(f"      {one}" for one in (row.says, *row.notes))]
        blocks.append("\n".join([part.title, *lines]))
    return "\n\n".join(blocks) + "\n"


def markdown(history: History, *, each: bool = False) -> str:
    """Return the page as Markdown.

    Args:
        history: what changed.
        each: name each of the rules that came with a capability.
    """
    blocks = [_NOTE + f"\n# {_TITLE}", textwrap.fill(_LEAD, 100)]
    for part in _parts(history, each=each):
        blocks.append(f"## {part.title}")
        if part.lines:
            # what is indented is a list in the list
            items = (re.sub(r"^( *)", r"\1- ", _escaped(line)) for line in part.lines)
            blocks.append("\n".join(items))
        if part.rows:
            head = ["rule", *history.kernels]
            blocks.append(
                "\n".join(
                    [
                        _cells(head),
                        _cells(["---"] * len(head)),
                        *(_cells([_explained(row), *row.cells]) for row in part.rows),
                    ]
                )
            )
    return "\n\n".join(blocks) + "\n"


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _explained(row: _Row) -> str:
    return "<br>".join([f"`{row.slug}`", *map(_escaped, (row.says, *row.notes))])


def _escaped(words: str) -> str:
    """Have Markdown take each character for itself."""
    return re.sub(r"[|*<`\\]|(?<!\w)_", r"\\\g<0>", words)


def _parts(history: History, *, each: bool) -> Iterator[_Part]:
    yield _Part("Kernels", tuple(f"{name}: {source}" for name, source in history.kernels.items()))
    if not history.rules:
        yield _Part("All rules gave the same on these kernels")
    lives = {slug: _Life.of(rule) for slug, rule in history.rules.items()}
    for kernel in history.kernels:
        new = {slug: life for slug, life in lives.items() if life.since == kernel}
        if new:
            count = _count(len(new))
            yield _Part(f"New in {kernel}: {count}", tuple(_brought(history, new, each=each)))
    rows: dict[str, list[_Row]] = {title: [] for title in _LISTS}
    for slug, life in lives.items():
        if differ(life.results.values()):
            rows[life.heading].append(_row(slug, history.rules[slug]))
    for title, found in rows.items():
        if found:
            yield _Part(f"{title}: {_count(len(found))}", rows=tuple(found))


@dataclass(frozen=True)
class _Life:
    """What a rule gave from the first kernel on that has what the rule is about.

    Attributes:
        since: that kernel; "" unless one before it was seen to be without.
        lacked: why the one before was.
        results: of that kernel and those above it.
    """

    since: str
    lacked: str
    results: Mapping[str, Given]

    @classmethod
    def of(cls, rule: RuleHistory) -> _Life:
        """Begin where a rule is first not absent; a rule that differs is not always absent."""
        known = list(rule.known.items())
        at = next(i for i, (_, given) in enumerate(known) if given.mark is not Mark.ABSENT)
        since, lacked = (known[at][0], known[at - 1][1].why) if at else ("", "")
        return cls(since, lacked, dict(known[at:]))

    @property
    def first(self) -> Given:
        """What it gave on that kernel."""
        return next(iter(self.results.values()))

    @property
    def heading(self) -> str:
        """What the rule is listed under, as in _LISTS."""
        marks = [given.mark for given in self.results.values()]
        return next(title for title, takes in _LISTS.items() if takes(set(marks), marks[-1]))


def _brought(history: History, new: Mapping[str, _Life], *, each: bool) -> Iterator[str]:
    """Tell what rules a kernel is the first to have, by what those before it are without."""
    groups: dict[str, list[str]] = {}
    for slug, life in new.items():
        named = _LACKED.fullmatch(life.lacked)
        groups.setdefault(named[1] if named else f'no longer "{life.lacked}"', []).append(slug)
    for what, slugs in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        suites = Counter(slug.partition(".")[0] for slug in slugs)
        defects = sum(new[slug].first.mark in _BAD for slug in slugs)
        told = ", ".join(f"{suite} {count}" for suite, count in sorted(suites.items()))
        known = f", {defects} with a defect" if defects else ""
        yield f"{what}: {_count(len(slugs))}{known} ({told})"
        for slug in slugs if each else ():
            yield f"    {slug}, {new[slug].first}: {history.rules[slug].says}"


def _row(slug: str, rule: RuleHistory) -> _Row:
    reasons: dict[str, list[str]] = {}
    for kernel, given in rule.results.items():
        if given.why:
            reasons.setdefault(given.why, []).append(kernel)
    notes = [f"{', '.join(kernels)}: {why}" for why, kernels in reasons.items()]
    return _Row(slug, rule.says, [str(given) for given in rule.results.values()], notes)


def _count(number: int) -> str:
    return f"{number} rule{'s' if number != 1 else ''}"
