# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd rules`: list and explain the rules of the installed suites."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import fnmatch
import textwrap
from typing import TYPE_CHECKING

from pytest_iommufd.commands import history
from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.catalogue import shipped
from pytest_iommufd.rules.marker import matches
from pytest_iommufd.rules.rerun import command
from pytest_iommufd.uapi.errors import did_you_mean

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from pytest_iommufd.rules.catalogue import Catalogue
    from pytest_iommufd.rules.model import Rule

_WILD = "*?["


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `rules` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. The parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "rules",
        help="list and explain the rules of the suites",
        description="Without a name, all rules are listed.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="SLUG-OR-PATTERN",
        help="a rule to explain, or a pattern of rules to list, such as 'hwpt_alloc.flags.*'",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="show what changed of them between kernels: as `pytest-iommufd history` does",
    )
    parser.set_defaults(run=_rules)


def _rules(args: argparse.Namespace) -> int:
    if args.history:
        print(history.page(args.names), end="")
        return 0
    catalogues = list(shipped())
    known = [name for each in catalogues for rule in each.rules.values() for name in rule.names]
    made = [name for name in args.names if any(each.has(name) for each in catalogues)]
    for name in args.names:
        if name not in made and not fnmatch.filter(known, name):
            what = "no rule's name matches" if set(_WILD) & set(name) else "there is no rule"
            raise Problem(
                f"{what} {name!r}{did_you_mean(name, known)}",
                mend="pytest-iommufd rules, which lists them",
            )
    patterns = [name for name in args.names if name not in made]
    if patterns or not args.names:
        print("\n\n".join("\n".join(part) for part in _listed(catalogues, patterns or ["*"])))
    for catalogue in catalogues:
        for name in dict.fromkeys(args.names):
            if catalogue.has(name):
                rule = catalogue.rule(name)
                today = rule.slug if name in rule.aliases else name
                print("\n".join(_explained(catalogue, rule, today)))
    return 0


def _listed(catalogues: Iterable[Catalogue], patterns: list[str]) -> Iterator[list[str]]:
    """Return the lines of each suite that has a matching rule."""
    for catalogue in catalogues:
        rules = [rule for rule in catalogue.rules.values() if matches(rule.names, patterns)]
        if rules:
            width = max(len(rule.slug) for rule in rules)
            count = f"{len(rules)} rule{'s' if len(rules) > 1 else ''}"
            yield [
                f"{catalogue.title}: {count}",
                *(f"  {rule.slug:{width}}  {rule.says}" for rule in rules),
            ]


def _explained(catalogue: Catalogue, rule: Rule, name: str) -> Iterator[str]:
    """Return the lines that tell all that is known of a rule."""
    yield from origin(catalogue, rule, name)
    yield "expected:"
    yield from (f"  {line}" for line in _expected(catalogue, rule))
    if rule.needs:
        yield "needs:"
        for need in rule.needs:
            yield f"  {need}: {catalogue.capabilities[need].meaning}"
    yield from defects(rule)
    yield "to run it:"
    yield f"  {command(catalogue.path.parent, name)}"


def origin(catalogue: Catalogue, rule: Rule, name: str) -> Iterator[str]:
    """Return the lines that tell what a rule says, where it comes from, and who promises it."""
    yield f"{name} ({catalogue.title})"
    yield from textwrap.wrap(rule.says, 96, initial_indent="  ", subsequent_indent="  ")
    for title, texts, said in (
        ("source", rule.source, catalogue.credit),
        ("promised by", rule.promise, catalogue.promised),
    ):
        if texts:
            yield f"{title}:"
        for text in texts:
            yield f"  {said(text)}"
            if link := catalogue.link(text):
                yield f"    {link}"
    if rule.behaviour:
        yield f"promised by nobody: {rule.behaviour}"


def defects(rule: Rule) -> Iterator[str]:
    """Return the lines that tell what kernels are known to do instead."""
    for title, known in (
        ("known defects:", rule.defects),
        ("kernels are known to differ:", rule.differences),
    ):
        if known:
            yield title
        for one in known:
            yield f"  {one.gives}: {one.why}"
            yield from (f"    shows: {pattern}" for pattern in one.shows)
            for what in ("dialects", "reported", "mended", "seen"):
                if told := getattr(one, what):
                    yield f"    {what}: {told if isinstance(told, str) else ', '.join(told)}"


def _expected(catalogue: Catalogue, rule: Rule) -> Iterator[str]:
    for key, result in rule.expect.items():
        about = catalogue.dialects[key].about if key in catalogue.dialects else ""
        yield f"{key}: {result}" + (f"   ({about})" if about else "")
