# SPDX-License-Identifier: GPL-2.0-only
"""Which of our rules check what the kernel's C selftest checks: suites/parity.toml.

    [iommufd_ioas]                              # a fixture of the C program
    variants = ["no_domain", "mock_domain"]     # none when it has none

    [iommufd_ioas.tests]
    map_overlap = ["ioas.map.overlap"]          # in every variant
    "mock_domain.copy" = ["ioas.copy.domain"]   # in one

Each result of the C program is `fixture.variant.test`, as it prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.catalogue import content, shipped, suites

if TYPE_CHECKING:
    from pathlib import Path

FILE = "parity.toml"


def load(path: Path | None = None) -> dict[str, list[str]]:
    """Read the ledger.

    Args:
        path: the file; by default the one of the suites.

    Returns:
        By result, `fixture.variant.test` or `fixture.test`: our rules that check the same, or more.

    Raises:
        Problem: it cannot be read, or names no rule, or one that does not exist.
    """
    path = path or suites() / FILE
    known = {slug for catalogue in shipped() for slug in catalogue.rules}
    found: dict[str, list[str]] = {}
    for fixture, values in content(path).items():
        variants, tests = values.get("variants", []), values.get("tests", {})
        # what is said of one variant, with its name, wins over what is said of all
        for name, rules in sorted(tests.items(), key=lambda item: "." in item[0]):
            spread = [name] if "." in name or not variants else [f"{v}.{name}" for v in variants]
            found |= {f"{fixture}.{one}": rules for one in spread}
    for name, rules in found.items():
        if not rules:
            raise Problem(f"{path}: {name} has no rule")
        if strange := set(rules) - known:
            raise Problem(f"{path}: {name} names the rule {min(strange)!r}, which does not exist")
    return found
