# SPDX-License-Identifier: GPL-2.0-only
"""Each rule's verdict on each kernel, gathered from what its tests gave."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_KERNEL = "-"
"""The name that stands for the kernel of tests that use none."""


class Mark(enum.Enum):
    """A rule's verdict; of a rule's several tests the worst counts."""

    HOLDS = "holds"
    DIFFERS = "differs"
    DEFECT = "known defect"
    VIOLATED = "violated"
    CRASHED = "crashed"
    ABSENT = "absent"
    NOT_RUN = "not run"

    @property
    def badness(self) -> int:
        """How bad it is, for comparing: a rule that holds in one variant is not absent."""
        return _BADNESS.index(self)


_BADNESS = (
    *(Mark.NOT_RUN, Mark.ABSENT, Mark.HOLDS),
    *(Mark.DIFFERS, Mark.DEFECT, Mark.VIOLATED, Mark.CRASHED),
)
# Of a Result, what other processes get as lists.
_TUPLES = ("calls", "reproducers")


@dataclass(frozen=True)
class Result:
    """What one test, or the worst of a rule's tests, gave on one kernel.

    Attributes:
        kernel: its name.
        slug: the rule.
        mark: the verdict.
        spec: the kernel as it was asked for.
        dialect: what the kernel speaks, "" when nobody asked.
        expected: "OK" or an errno's name, "" when the catalogue does not say.
        got: what the ioctl gave, "" when that is not known.
        reason: why the rule is absent, violated or crashed, one line.
        known: of a known defect, what in the kernel is wrong; of a difference that is known, why
            it is; else "".
        console: what the kernel printed of it.
        nodeid: the test.
        path: the test's file.
        calls: the last ioctls before a failure, or of a test that showed a known defect.
        reproducers: the files that do what the test did.
    """

    kernel: str
    slug: str
    mark: Mark = Mark.NOT_RUN
    spec: str = ""
    dialect: str = ""
    expected: str = ""
    got: str = ""
    reason: str = ""
    known: str = ""
    console: str = ""
    nodeid: str = ""
    path: str = ""
    calls: tuple[str, ...] = ()
    reproducers: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether the rule does not hold, in a way that is not known."""
        return self.mark in {Mark.VIOLATED, Mark.CRASHED}

    @property
    def gave(self) -> str:
        """What the kernel gave: an errno's name or OK, else the mark."""
        return self.got if self.got and self.mark is not Mark.CRASHED else self.mark.value

    def packed(self) -> dict[str, Any]:
        """Return it as what a report can carry to another process."""
        lists = {name: list(getattr(self, name)) for name in _TUPLES}
        return {**asdict(self), "mark": self.mark.value, **lists}

    @classmethod
    def unpacked(cls, values: Mapping[str, Any]) -> Self:
        """Make it from what packed() returned."""
        tuples = {name: tuple(values[name]) for name in _TUPLES}
        return cls(**{**values, "mark": Mark(values["mark"]), **tuples})


class Verdicts:
    """Results by kernel's name and rule's slug, in the order they came."""

    def __init__(self) -> None:
        self._results: dict[str, dict[str, Result]] = {}
        self._tests: dict[tuple[str, str], set[str]] = {}

    def add(self, result: Result) -> None:
        """Add what one test gave; it may give several, as its set-up and its end can fail."""
        rules = self._results.setdefault(result.kernel, {})
        before = rules.get(result.slug)
        if before is None or result.mark.badness > before.mark.badness:
            rules[result.slug] = result
        if result.mark is not Mark.NOT_RUN:
            self._tests.setdefault((result.kernel, result.slug), set()).add(result.nodeid)

    def complete(self, kernels: Mapping[str, str], slugs: Iterable[str]) -> None:
        """Put kernels and rules in order, and note that what no test ran was not run.

        Args:
            kernels: specs by name; other kernels come last.
            slugs: rules; other rules come last, and need not have run.
        """
        wanted = list(slugs)
        old, self._results = self._results, {}
        for kernel in dict.fromkeys((*kernels, *old)):
            given = old.get(kernel, {})
            known = wanted if kernel in kernels else [slug for slug in wanted if slug in given]
            spec = kernels.get(kernel, "")
            self._results[kernel] = {
                slug: given.get(slug, Result(kernel, slug, spec=spec))
                for slug in dict.fromkeys((*known, *given))
            }

    @property
    def kernels(self) -> list[str]:
        """The kernels' names."""
        return list(self._results)

    @property
    def slugs(self) -> list[str]:
        """The rules of all kernels."""
        return list(dict.fromkeys(slug for rules in self._results.values() for slug in rules))

    def of(self, kernel: str, slug: str) -> Result:
        """Return a rule's result on a kernel."""
        return self._results[kernel].get(slug, Result(kernel, slug))

    def tests(self, kernel: str, slug: str) -> int:
        """Return how many tests of a rule ran on a kernel."""
        return len(self._tests.get((kernel, slug), ()))

    def ran(self, slug: str) -> bool:
        """Tell whether a rule was run on any kernel."""
        return any(self.tests(kernel, slug) for kernel in self._results)

    def counts(self, kernel: str) -> dict[Mark, int]:
        """Return how many rules of a kernel have each mark that any has."""
        counted = Counter(result.mark for result in self._results[kernel].values())
        return {mark: counted[mark] for mark in Mark if counted[mark]}

    def differs(self, slug: str, kernel: str = "") -> bool:
        """Tell whether kernels differ in what they gave, or in the verdict on it.

        Args:
            slug: the rule.
            kernel: one to compare with the first; by default all are compared.
        """
        names = [self.kernels[0], kernel] if kernel else self.kernels
        results = [self.of(name, slug) for name in names]
        ran = [result for result in results if result.mark is not Mark.NOT_RUN]
        return len({(result.mark, result.gave) for result in ran}) > 1
