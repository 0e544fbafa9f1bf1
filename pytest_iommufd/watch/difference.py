# SPDX-License-Identifier: GPL-2.0-only
"""How the verdicts of two runs differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_iommufd.watch.tests import Verdict


@dataclass(frozen=True)
class Change:
    """A rule whose verdict is another than before.

    Attributes:
        slug: the rule.
        before: what it gave, "" for a rule that is new.
        after: what it gives, "" for a rule that is gone.
        reason: why it does not hold now, else "".
        worse: whether it does not hold now.
    """

    slug: str
    before: str
    after: str
    reason: str = ""
    worse: bool = False

    def __str__(self) -> str:
        if not self.before:
            return f"{self.slug}: new, {self.after}"
        return f"{self.slug}: {self.before} -> {self.after or 'gone'}"


def differences(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> list[Change]:
    """Compare two runs.

    Args:
        before: verdicts by slug.
        after: those of the later run.

    Returns:
        What differs, in the order of the later run; what is gone comes last. A rule that gives
        something else than before differs, though it may hold both times.
    """
    changes = []
    for slug, now in after.items():
        then = before.get(slug)
        if then is None or (then.mark, then.gave) != (now.mark, now.gave):
            told = _told(then, now) if then else ("", now.mark.value)
            changes.append(Change(slug, *told, now.reason if now.bad else "", worse=now.bad))
    gone = [slug for slug in before if slug not in after]
    return changes + [Change(slug, before[slug].mark.value, "") for slug in gone]


def _told(then: Verdict, now: Verdict) -> tuple[str, str]:
    """Both marks; of the same mark, with what the kernel gave."""
    if then.mark is not now.mark:
        return then.mark.value, now.mark.value
    return f"{then.mark.value} ({then.gave})", f"{now.mark.value} ({now.gave})"


def counts(rules: Mapping[str, Verdict]) -> str:
    """Say how many rules have each verdict.

    Args:
        rules: verdicts by slug.

    Returns:
        Such as "255 hold, 1 violated, 5 absent".
    """
    counted = Counter(verdict.mark for verdict in rules.values())
    words = {Mark.HOLDS: "hold"}
    return ", ".join(
        f"{counted[mark]} {words.get(mark, mark.value)}" for mark in Mark if counted[mark]
    )
