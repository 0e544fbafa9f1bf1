# SPDX-License-Identifier: GPL-2.0-only
"""Each rule's verdict on each kernel, gathered from the tests' reports."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field


class Mark(enum.Enum):
    """A rule's verdict; of a rule's several tests the worst counts."""

    HOLDS = "holds"
    ABSENT = "absent"
    VIOLATED = "violated"
    CRASHED = "crashed"

    @property
    def badness(self) -> int:
        """How bad it is, for comparing."""
        return list(Mark).index(self)


@dataclass
class Verdicts:
    """Marks by kernel's name and rule's slug, in the order they came."""

    marks: dict[str, dict[str, Mark]] = field(default_factory=dict)

    def add(self, kernel: str, slug: str, mark: Mark) -> None:
        """Add one test's outcome."""
        rules = self.marks.setdefault(kernel, {})
        known = rules.get(slug)
        # a rule that holds in one variant and is absent in another holds
        if known is None or known is Mark.ABSENT or mark.badness > max(known.badness, 1):
            rules[slug] = mark

    def counts(self, kernel: str) -> str:
        """Say how many rules of a kernel have each mark."""
        counted = Counter(self.marks[kernel].values())
        return ", ".join(f"{counted[mark]} {mark.value}" for mark in Mark if counted[mark])

    def table(self) -> list[str]:
        """Return a line for each rule with its mark on each kernel, and a head."""
        kernels = list(self.marks)
        slugs = list(dict.fromkeys(slug for rules in self.marks.values() for slug in rules))
        width = max([len("rule"), *map(len, slugs)])
        columns = [max(len(kernel), len("violated")) for kernel in kernels]
        rows = [["rule", *kernels]]
        for slug in slugs:
            row = [self.marks[kernel].get(slug) for kernel in kernels]
            rows.append([slug, *(mark.value if mark else "not run" for mark in row)])
        return [
            "  ".join(
                cell.ljust(size) for cell, size in zip(row, [width, *columns], strict=True)
            ).rstrip()
            for row in rows
        ]
