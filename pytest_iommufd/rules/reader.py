# SPDX-License-Identifier: GPL-2.0-only
"""From what a rules.toml has to its objects, or to what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from datetime import date
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.marker import ABSENT, ANY, SLUG
from pytest_iommufd.rules.model import (
    CRASHED,
    DECLARED,
    DOCUMENTS,
    MAINLINE,
    OK,
    VIOLATED,
    WITHOUT,
    Capability,
    Defect,
    Dialect,
    Ladder,
    Rule,
    Source,
)
from pytest_iommufd.uapi import UnknownNameError, errno_number
from pytest_iommufd.uapi.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import UnionType

_T = TypeVar("_T")
_TABLES = ("dialects", "sources", "capabilities", "ladders")
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", lambda value: isinstance(value, str)),
    "date": ("a date", lambda value: isinstance(value, date)),
    "tuple[str, ...]": ("a list of texts", lambda value: _is_list_of(str, value)),
    "tuple[Defect, ...]": ("a list of tables", lambda value: _is_list_of(Defect, value)),
    "Mapping[str, list[str]]": (
        "a table of lists",
        lambda value: (
            isinstance(value, dict) and all(_is_list_of(str, one) for one in value.values())
        ),
    ),
    "Mapping[str, list[dict[str, str] | str]]": (
        "a table of lists of tables or names",
        lambda value: (
            isinstance(value, dict) and all(_is_list_of(dict | str, one) for one in value.values())
        ),
    ),
    "Mapping[str, str]": ("a text, or a table of texts", lambda value: isinstance(value, dict)),
}
"""By the type of a field: what a file must have there, in words and as a check."""


class Reader:
    """Reads a file's content and checks it.

    Args:
        path: the file.
        content: what is in it.
        shared: capabilities that every file has.

    Its attributes are those of a catalogue.

    Raises:
        Problem: it is not right.
    """

    def __init__(
        self, path: Path, content: dict[str, Any], shared: Mapping[str, Capability]
    ) -> None:
        self._path = path
        self._defects = self._lists(content.pop("defects", {}))
        tables = {name: self._tables(name, content.pop(name, {})) for name in _TABLES}
        self.dialects = {MAINLINE.name: MAINLINE} | self._named(Dialect, tables, "dialects")
        for dialect in self.dialects.values():
            if dialect.like:
                self._among("dialect", dialect.like, self.dialects, f"dialects.{dialect.name}")
        self.sources = self._named(Source, tables, "sources")
        own = self._named(Capability, tables, "capabilities")
        for name, one in own.items():
            if name in shared:
                self._fail(f"capability {name!r} is a shared one", "another name, or nothing")
            if bool(one.header) + bool(one.ioctl) + bool(one.fixture) != 1:
                self._fail(f"capability {name!r}", "one of header, ioctl and fixture")
            if one.fixture and not one.lacks:
                self._fail(f"capability {name!r} has no 'lacks'", "what to say if it is lacking")
        self.capabilities = {**shared, **own}
        self.title = str(content.pop("title", path.parent.name))
        self.rules = {
            slug: self._rule(slug, values) for slug, values in self._tables("", content).items()
        }
        self._check_aliases()
        self.ladders = {
            name: self._ladder(name, values) for name, values in tables["ladders"].items()
        }

    def _fail(self, what: str, expected: str = "") -> NoReturn:
        raise Problem(f"{self._path}: {what}", expected=expected)

    def _tables(self, name: str, content: Any) -> dict[str, dict[str, Any]]:
        made: dict[str, Any] = content if isinstance(content, dict) else {"": content}
        for key, values in made.items():
            if not isinstance(values, dict):
                self._fail(f"{f'{name}.{key}'.strip('.')} = {values!r}", "a table")
        return made

    def _named(
        self, kind: type[_T], tables: Mapping[str, dict[str, dict[str, Any]]], table: str
    ) -> dict[str, _T]:
        return {
            name: self._made(kind, f"{table}.{name}", {**values, "name": name})
            for name, values in tables[table].items()
        }

    def _made(self, kind: type[_T], where: str, values: dict[str, Any]) -> _T:
        """Make an object of a table whose keys are its fields."""
        known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
        for key, value in values.items():
            self._among("key", key, known, where)
            words, is_right = _KINDS[str(known[key].type)]
            if not is_right(value):
                self._fail(f"[{where}]: {key} = {value!r}", words)
        for key, one in known.items():
            if key not in values and one.default is MISSING is one.default_factory:
                self._fail(f"[{where}] has no {key!r}", _KINDS[str(one.type)][0])
        listed = {key: tuple(one) for key, one in values.items() if isinstance(one, list)}
        return kind(**{**values, **listed})

    def _among(self, kind: str, name: str, known: Iterable[str], where: str) -> None:
        if name not in known:
            self._fail(
                f"[{where}] has an unknown {kind}: {name!r}{did_you_mean(name, known)}",
                f"one of: {', '.join(known)}",
            )

    def _rule(self, slug: str, values: dict[str, Any]) -> Rule:
        if not SLUG.fullmatch(slug.replace(f".{ANY}", ".any")):
            self._fail(
                f"{slug!r} is no rule's name", "letters, digits, '_', '-', with dots between"
            )
        made = {**values, "slug": slug}
        if "expect" in made:
            made["expect"] = self._expect(slug, made["expect"])
        for key in ("defects", "differences"):
            if _is_list_of(dict | str, made.get(key)):
                made[key] = [
                    self._defect(slug, key, one)
                    for named in made[key]
                    for one in self._spelled_out(slug, named)
                ]
        rule = self._made(Rule, slug, made)
        if not rule.says.endswith("."):
            self._fail(f"[{slug}]: says = {rule.says!r}", "a sentence with a full stop")
        self._check_origin(rule)
        for need in rule.needs:
            self._among("capability", need, self.capabilities, slug)
        return rule

    def _check_aliases(self) -> None:
        owners = dict.fromkeys(self.rules, "a rule's name")
        for rule in self.rules.values():
            for alias in rule.aliases:
                if alias in owners:
                    self._fail(f"[{rule.slug}]: alias {alias!r} is {owners[alias]} already")
                owners[alias] = f"an alias of {rule.slug}"

    def _check_origin(self, rule: Rule) -> None:
        slug = rule.slug
        if not rule.source:
            self._fail(f"[{slug}] has no source", "file.c:function, or the name of a source")
        for source in rule.source:
            name, _, place = source.partition(":")
            if not (place and re.fullmatch(r"[\w/-]+\.[ch]", name)):
                self._among("source", name, self.sources, slug)
        if rule.promise and rule.behaviour:
            self._fail(f"[{slug}] is promised and mere behaviour", "one of both")
        if rule.promise and rule.differences:
            self._fail(f"[{slug}] is promised and has differences", "defects instead")
        for promise in rule.promise:
            name, _, place = promise.partition(":")
            if name in DOCUMENTS and not place:
                self._fail(f"[{slug}]: promise = {promise!r}", f"a place in it: '{name}:WORD'")
            self._among("document or source", name, {**DOCUMENTS, **self.sources}, slug)

    def _defect(self, slug: str, key: str, values: dict[str, Any]) -> Defect:
        defect = self._made(Defect, f"{slug}.{key}", values)
        for dialect in defect.dialects:
            self._among("dialect", dialect, self.dialects, slug)
        if defect.gives not in (OK, VIOLATED, CRASHED) and not _is_errno(defect.gives):
            self._fail(
                f"[{slug}] has a {key[:-1]} that gives {defect.gives!r}",
                f"'{OK}', an errno's name, '{VIOLATED}' or '{CRASHED}'",
            )
        self._check_shows(slug, key, defect)
        return defect

    def _spelled_out(self, slug: str, named: str | dict[str, Any]) -> list[dict[str, Any]]:
        """Return what the file has under a name, or what has none."""
        if isinstance(named, dict):
            return [named]
        self._among("defect", named, self._defects, slug)
        return self._defects[named]

    def _lists(self, content: Any) -> dict[str, list[dict[str, Any]]]:
        if not isinstance(content, dict) or not all(_is_list_of(dict, x) for x in content.values()):
            self._fail("defects are no lists of tables", "[[defects.NAME]]")
        return content

    def _check_shows(self, slug: str, key: str, defect: Defect) -> None:
        if bool(defect.shows) != (defect.gives in (VIOLATED, CRASHED)):
            self._fail(
                f"[{slug}] has a {key[:-1]} that gives {defect.gives!r} and "
                + ("'shows'" if defect.shows else "no 'shows'"),
                f"patterns of what the test says, with '{VIOLATED}' and '{CRASHED}' only",
            )
        for pattern in defect.shows:
            try:
                re.compile(pattern)
            except re.error as error:
                what = f"[{slug}] has a {key[:-1]} that shows {pattern!r}: {error}"
                self._fail(what, "a pattern")

    def _expect(self, slug: str, given: Any) -> Any:
        """Give each dialect its result."""
        given = {"": given} if isinstance(given, str) else given
        for key, result in given.items() if isinstance(given, dict) else [("", given)]:
            dialect, _, capability = key.partition(WITHOUT)
            if key:
                self._among("dialect", dialect, self.dialects, slug)
            if capability:
                self._among("capability", capability, self.capabilities, slug)
            if not _is_result(result, slug):
                self._fail(
                    f"[{slug}] expects {result!r}, which is no errno",
                    f"'{OK}', an errno's name, or '{ABSENT}' and why",
                )
        whole = {key: result for key, result in given.items() if WITHOUT in key}
        for name in self.dialects:
            found = self._nearest(name, given)
            if found not in given:
                self._fail(f"[{slug}] has no result for dialect {name!r}")
            whole[name] = given[found]
        return whole

    def _nearest(self, name: str, given: Mapping[str, object]) -> str:
        """Return the nearest dialect that something is given for, "" if there is none."""
        while name and name not in given:
            name = self.dialects[name].like
        return name

    def _ladder(self, name: str, values: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        """Make a rule for each rung, and return the rungs by dialect."""
        # its own keys; any other is a dialect
        own = {one.name: values.pop(one.name) for one in fields(Ladder) if one.name in values}
        ladder = self._made(Ladder, f"ladders.{name}", own)
        given: dict[str, dict[str, str]] = {}
        for dialect, rungs in values.items():
            self._among("dialect", dialect, self.dialects, f"ladders.{name}")
            given[dialect] = dict(self._rung(name, rung) for rung in rungs)
        results = {one: given.get(self._nearest(one, given), {}) for one in self.dialects}
        rungs = list(dict.fromkeys(rung for known in results.values() for rung in known))
        for table in ("errors", "needs", "defects", "differences"):
            for rung in getattr(ladder, table):
                self._among("rung", rung, [*rungs, "*"], f"ladders.{name}.{table}")
        for rung in rungs:
            slug = f"{name}.{rung}"
            order = next(known for known in results.values() if rung in known)
            self.rules[slug] = self._rule(
                slug,
                {
                    "says": self._precedence(name, ladder, rung, order),
                    "source": ladder.source,
                    "behaviour": "the order of checks",
                    "needs": [one for key in ("*", rung) for one in ladder.needs.get(key, ())],
                    "defects": ladder.defects.get(rung, []),
                    "differences": ladder.differences.get(rung, []),
                    "expect": {
                        dialect: known.get(rung, f"{ABSENT}there is no such check")
                        for dialect, known in results.items()
                    },
                },
            )
        return {dialect: tuple(known) for dialect, known in results.items()}

    def _precedence(self, name: str, ladder: Ladder, rung: str, order: dict[str, str]) -> str:
        """Make the sentence of a rung, in the order of a dialect."""
        later = list(order)[list(order).index(rung) + 1 :]
        # nobody sees which of two errors with one errno comes first; a field has one value
        seen = (one for one in later if order[one] != order[rung])
        other = next((one for one in seen if not one.startswith(f"{rung}_")), "")
        for one in filter(None, (rung, other)):
            if one not in ladder.errors:
                self._fail(f"[ladders.{name}] has no errors.{one}", "what is wrong then, in words")
        what = f"{ladder.says} reports {ladder.errors[rung]} ({order[rung]})"
        if not later:
            return f"{what} only if nothing else is wrong."
        rather = f" rather than {ladder.errors[other]}" if other else ""
        after = ", or an error that is checked after that" if other and other != later[-1] else ""
        return f"{what}{rather}{after}."

    def _rung(self, ladder: str, text: str) -> tuple[str, str]:
        name, _, result = text.partition(" ")
        if not result:
            self._fail(f"[ladders.{ladder}]: {text!r}", "a rung's name, a space, and its errno")
        return name, result


def _is_list_of(kind: type | UnionType, value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, kind) for one in value)


def _is_result(text: object, slug: str) -> bool:
    return isinstance(text, str) and (
        text == OK
        or text.startswith(ABSENT)
        or (text == DECLARED and ANY in slug)
        or _is_errno(text)
    )


def _is_errno(name: str) -> bool:
    try:
        return errno_number(name) > 0
    except UnknownNameError:
        return False
