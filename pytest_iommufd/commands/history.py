# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd history`: what changed of the uAPI between kernels."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.reports import changes, runs
from pytest_iommufd.reports.history import dumps, names
from pytest_iommufd.rules.marker import matches

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_iommufd.reports.history import RuleHistory


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `history` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. The parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "history",
        help="show what changed of the uAPI between kernels",
        description="What rules gave on several kernels, where that is not the same on all: of "
        "the runs that are shipped, or of your own.",
    )
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="PATTERN",
        help="only rules whose name matches, such as 'dirty_tracking.*', each by its name",
    )
    parser.add_argument(
        "--run",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        dest="files",
        metavar="FILE",
        help="files that pytest --rules-json wrote, each of one kernel or several; or one that "
        "--format json printed",
    )
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "json"),
        default="text",
        help="json can be read again; suites/history.json is such a file (default: text)",
    )
    parser.set_defaults(run=_history)


def _history(args: argparse.Namespace) -> int:
    print(page(args.patterns, args.files, args.format), end="")
    return 0


def page(patterns: Sequence[str] = (), files: Sequence[Path] = (), form: str = "text") -> str:
    """Show what changed between kernels.

    Args:
        patterns: of rules' names; none for all rules.
        files: of runs; none for those that are shipped.
        form: "text", "markdown" or "json".

    Raises:
        Problem: a file is no run, or no rule matches.
    """
    found = runs.load(files)
    if patterns:
        found = dataclasses.replace(found, rules=_matching(found.rules, patterns))
    if form == "json":
        return dumps(found)
    return getattr(changes, form)(found, each=bool(patterns))  # type: ignore[no-any-return]


def _matching(rules: Mapping[str, RuleHistory], patterns: Sequence[str]) -> dict[str, RuleHistory]:
    found = {slug: rule for slug, rule in rules.items() if matches(names(slug), patterns)}
    if not found:
        raise Problem(
            f"no rule {' or '.join(patterns)} is known to differ between these kernels",
            mend="pytest-iommufd history, which shows all that do",
        )
    return found
