# SPDX-License-Identifier: GPL-2.0-only
"""What changed between kernels, as plain data: suites/history.json is such a file.

    history     FORM
    kernels     release and source, in order
    rules       by name, of each rule that did not give the same on all kernels: what it gave from
                which kernel on, as mark, gave and why; and says, unless a rules.toml of the suites
                has its sentence

FORM grows when a key goes away or means something else.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_iommufd.rules.catalogue import shipped
from pytest_iommufd.rules.marker import ANY
from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_iommufd.rules.model import Rule

FILE = "history.json"
"""Beside the suites' folders."""
FORM = 1
_NEXT = ",\n  "


@dataclass(frozen=True)
class Given:
    """What a rule gave on a kernel.

    Attributes:
        mark: the verdict; "not run" also where the run tells nothing of the kernel.
        gave: an errno's name, OK, or the mark.
        why: why the rule is absent, or what is wrong with the kernel; else "".
    """

    mark: Mark = Mark.NOT_RUN
    gave: str = Mark.NOT_RUN.value
    why: str = ""

    def __str__(self) -> str:
        """What it gave, with the verdict unless that says the same or the rule holds."""
        plain = self.mark is Mark.HOLDS or self.gave == self.mark.value
        return self.gave if plain else f"{self.gave} ({self.mark.value})"

    @classmethod
    def unpacked(cls, values: Mapping[str, str]) -> Given:
        """Make it from what packed() returned."""
        return cls(Mark(values["mark"]), values.get("gave", values["mark"]), values.get("why", ""))

    def packed(self) -> dict[str, str]:
        """Return it as what JSON can have, without what says nothing."""
        gave = "" if self.gave == self.mark.value else self.gave
        values = {"mark": self.mark.value, "gave": gave, "why": self.why}
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class RuleHistory:
    """What a rule gave on several kernels.

    Attributes:
        says: its sentence.
        results: by release, of all kernels in order.
    """

    says: str
    results: Mapping[str, Given]

    @property
    def known(self) -> dict[str, Given]:
        """The results that tell something of their kernels."""
        results = self.results.items()
        return {kernel: given for kernel, given in results if given.mark is not Mark.NOT_RUN}

    @property
    def differs(self) -> bool:
        """Whether kernels did not all do the same."""
        return differ(self.known.values())


@dataclass(frozen=True)
class History:
    """What changed between kernels.

    Attributes:
        kernels: where each came from, by release, in the order of versions.
        rules: those that differ, by name, in the order of names.
    """

    kernels: Mapping[str, str]
    rules: Mapping[str, RuleHistory]


def differ(results: Iterable[Given]) -> bool:
    """Tell whether what kernels gave is not the same, whatever the reasons."""
    return len({(given.mark, given.gave) for given in results}) > 1


@functools.cache
def _rules() -> tuple[dict[str, Rule], list[Rule]]:
    """Return the rules of the suites by each of their names, and those that stand for many."""
    rules = [rule for catalogue in shipped() for rule in catalogue.rules.values()]
    named = {name: rule for rule in rules for name in rule.names}
    return named, [rule for rule in rules if ANY in rule.slug]


def names(slug: str) -> tuple[str, ...]:
    """Return all names of a rule, today's first."""
    found = _rules()[0].get(slug)
    return found.names if found else (slug,)


def sentence(slug: str) -> str:
    """Return what a rule of the installed suites says, "" of another."""
    named, many = _rules()
    rule = named.get(slug) or next((one for one in many if one.stands_for(slug)), None)
    return rule.says if rule else ""


def dumps(history: History) -> str:
    """Return a history as JSON, a rule a line."""
    kernels = [
        json.dumps({"release": release, "source": source}, ensure_ascii=False)
        for release, source in history.kernels.items()
    ]
    rules = [
        f"{json.dumps(slug)}: {json.dumps(_packed(slug, rule), ensure_ascii=False)}"
        for slug, rule in history.rules.items()
    ]
    return (
        f'{{\n "history": {FORM},\n'
        f' "kernels": [\n  {_NEXT.join(kernels)}\n ],\n'
        f' "rules": {{\n  {_NEXT.join(rules)}\n }}\n}}\n'
    )


def _packed(slug: str, rule: RuleHistory) -> dict[str, Any]:
    packed: dict[str, Any] = {} if rule.says == sentence(slug) else {"says": rule.says}
    before = None
    for kernel, given in rule.results.items():
        if given != before:
            packed[kernel] = given.packed()
        before = given
    return packed


def unpacked(data: Mapping[str, Any]) -> History:
    """Make a history from what dumps() returned, once json has read it.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is nothing that dumps() returns.
    """
    kernels = {kernel["release"]: kernel["source"] for kernel in data["kernels"]}
    rules = {slug: _rule(slug, kernels, values) for slug, values in data["rules"].items()}
    return History(kernels, rules)


def _rule(slug: str, kernels: Iterable[str], values: Mapping[str, Any]) -> RuleHistory:
    changes = dict(values)
    says = changes.pop("says", "") or sentence(slug)
    results, given = {}, Given()
    for kernel in kernels:
        if kernel in changes:
            given = Given.unpacked(changes.pop(kernel))
        results[kernel] = given
    if changes:
        raise ValueError(f"{slug} names {min(changes)!r}, which is none of the kernels")
    rule = RuleHistory(says, results)
    if not rule.differs:
        raise ValueError(f"{slug} gave the same on all kernels")
    return rule
