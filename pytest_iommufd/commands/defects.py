# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd defects`: what kernels are known to get wrong, and how to show it."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.commands.letters import write
from pytest_iommufd.commands.rules import defects, origin
from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL, FORMS
from pytest_iommufd.rules.catalogue import shipped
from pytest_iommufd.rules.marker import matches
from pytest_iommufd.rules.rerun import command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_iommufd.rules.catalogue import Catalogue
    from pytest_iommufd.rules.model import Rule


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `defects` command.

    Args:
        commands: the subparsers of `pytest-iommufd`. The parser sets `run`, a function of the
            parsed arguments that returns an exit status.
    """
    parser = commands.add_parser(
        "defects",
        help="list what kernels are known to get wrong",
        description="Each known defect: what is promised, what the kernel gives instead and why, "
        "and the command that writes a C program which shows it. With --write, a mail of each "
        "defect that kernels show, with that program in it.",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FOLDER",
        help="run the rules, and write there a mail of each defect that shows itself; a new "
        "folder, or an empty one",
    )
    parser.add_argument(
        "--kernel",
        action="append",
        metavar="SPEC",
        help=f"with --write, may be repeated: {FORMS}; default: that of the tests",
    )
    parser.add_argument(
        "--iommu",
        choices=("none", "intel", "amd"),
        default="none",
        help="with --write: an IOMMU that guests have, without which no real device is tested",
    )
    parser.add_argument(
        "patterns",
        nargs="*",
        default=["*"],
        metavar="PATTERN",
        help="only of rules whose name matches, such as 'dirty_tracking.*'",
    )
    parser.set_defaults(run=_defects)


def _defects(args: argparse.Namespace) -> int:
    found = [
        (catalogue, rule)
        for catalogue in shipped()
        for rule in catalogue.rules.values()
        if rule.defects and matches(rule.names, args.patterns)
    ]
    if not found:
        raise Problem(
            f"no defect is known of rules {', '.join(args.patterns)}",
            mend="pytest-iommufd defects, which lists all",
        )
    if args.kernel and not args.write:
        raise Problem("--kernel is for --write, which runs the rules", expected="--write FOLDER")
    if args.write:
        options = [f"--iommufd-iommu={args.iommu}"]
        write(args.write, args.kernel or [DEFAULT_KERNEL], found, options)
    else:
        print("\n\n".join("\n".join(_described(*one)) for one in found))
    return 0


def _described(catalogue: Catalogue, rule: Rule) -> Iterator[str]:
    yield from origin(catalogue, rule, rule.slug)
    yield f"expected: {' or '.join(dict.fromkeys(rule.expect.values()))}"
    yield from defects(rule)
    yield "to have a program that shows it:"
    again = command(catalogue.path.parent, rule.slug)
    yield f"  {again} --iommufd-reproducer c --iommufd-reproducer-of all"
