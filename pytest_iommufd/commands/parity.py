# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd parity`: which rules check what the kernel's C selftest checks."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.parity import load

if TYPE_CHECKING:
    import argparse


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `parity` command.

    Args:
        commands: the subparsers of `pytest-iommufd`.
    """
    parser = commands.add_parser(
        "parity", help="show which rules check what the kernel's C selftest checks"
    )
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="RESULT",
        help="results of the C selftest, such as 'iommufd_ioas.*.area*'; all when none is given",
    )
    parser.set_defaults(run=_print)


def _print(args: argparse.Namespace) -> int:
    patterns = args.patterns or ["*"]
    results = {
        name: rules
        for name, rules in load().items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }
    if not results:
        raise Problem(f"the C selftest has no result {' or '.join(patterns)}")
    for name, rules in results.items():
        print(f"{name}: {', '.join(rules)}")
    print(
        f"{len(results)} results, {len({one for rules in results.values() for one in rules})} rules"
    )
    return 0
