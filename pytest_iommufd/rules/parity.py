# SPDX-License-Identifier: GPL-2.0-only
"""Which of our rules check what the kernel's C selftest checks: suites/parity.toml.

    [iommufd_ioas]                              # a fixture of the C program
    variants = ["no_domain", "mock_domain"]     # none when it has none

    [iommufd_ioas.tests]
    map_overlap = ["ioas.map.overlap"]          # in every variant
    "mock_domain.copy" = ["ioas.copy.domain"]   # in one

Each result of the C program is `fixture.variant.test`, as it prints them.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.catalogue import shipped

if TYPE_CHECKING:
    import argparse

FILE = "parity.toml"


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
        help="results of the C selftest, such as 'iommufd_ioas.*.map*'; all when none is given",
    )
    parser.set_defaults(run=_print)


def _print(args: argparse.Namespace) -> int:
    entries = [
        entry
        for entry in load()
        if not args.patterns or any(fnmatch.fnmatch(entry.name, one) for one in args.patterns)
    ]
    if not entries:
        raise Problem(f"the C selftest has no result {' or '.join(args.patterns)}")
    for entry in entries:
        print(f"{entry.name}: {', '.join(entry.rules)}")
    print(f"{len(entries)} results, {len({rule for e in entries for rule in e.rules})} rules")
    return 0


@dataclass(frozen=True)
class Entry:
    """A result of the C selftest.

    Attributes:
        name: `fixture.variant.test`, or `fixture.test`.
        rules: our rules that check the same, or more.
    """

    name: str
    rules: tuple[str, ...]


def load(path: Path | None = None) -> list[Entry]:
    """Read the ledger.

    Args:
        path: the file; by default the one of the suites.

    Raises:
        Problem: it cannot be read, or names a rule that does not exist or a result twice.
    """
    path = path or Path(str(resources.files("pytest_iommufd.suites"))) / FILE
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Problem(f"{path}: {error}") from error
    known = {slug for catalogue in shipped() for slug in catalogue.rules}
    found: dict[str, Entry] = {}
    for fixture, values in content.items():
        variants = values.get("variants", [])
        for name, rules in _spread(fixture, variants, values.get("tests", {})).items():
            if not rules:
                raise Problem(f"{path}: {name} has no rule")
            for rule in rules:
                if rule not in known:
                    raise Problem(f"{path}: {name} names the rule {rule!r}, which does not exist")
            found[name] = Entry(name, tuple(rules))
    return list(found.values())


def _spread(fixture: str, variants: list[str], tests: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the rules of each variant of each test; what is said of one variant wins."""
    every = {name: rules for name, rules in tests.items() if "." not in name}
    one = {f"{fixture}.{name}": rules for name, rules in tests.items() if "." in name}
    if not variants:
        return {f"{fixture}.{name}": rules for name, rules in every.items()}
    whole = {
        f"{fixture}.{variant}.{name}": rules
        for variant in variants
        for name, rules in every.items()
    }
    return whole | one
