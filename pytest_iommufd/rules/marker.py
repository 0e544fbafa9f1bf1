# SPDX-License-Identifier: GPL-2.0-only
"""How a test says which rule it is, and that a kernel lacks what the rule is about."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

T = TypeVar("T")

MARKER = "iommufd_rule"
ABSENT = "absent: "
NOT_RUN = "not run: "
SLUG = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
# Stands for one part of the names of many rules in a catalogue.
ANY = "*"


def matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    """Tell whether one of a rule's names matches one of the patterns that a user gave."""
    patterns = list(patterns)
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def rule(slug: str) -> pytest.MarkDecorator:
    """Mark a test as the one of a rule.

    Args:
        slug: the rule's stable name: dotted, of letters, digits, "_" and "-".

    Raises:
        ValueError: it is not of that form.
    """
    if not SLUG.fullmatch(slug):
        raise ValueError(
            f"{slug!r} is no rule's name: expected letters, digits, '_' and '-' in at least two "
            "parts with dots between, such as 'hwpt_alloc.reserved'"
        )
    return getattr(pytest.mark, MARKER)(slug)  # type: ignore[no-any-return]


def rule_of(item: pytest.Item) -> str:
    """Return the name of a test's rule, "" when it has none."""
    marker = item.get_closest_marker(MARKER)
    return str(marker.args[0]) if marker else ""


def absent(reason: str) -> NoReturn:
    """End a test of a rule whose subject the kernel lacks, as asked of the kernel itself.

    Any other skip of a rule's test is a failure.

    Args:
        reason: what it lacks and how that was found out.
    """
    pytest.skip(ABSENT + reason)


def some(parameters: Sequence[T]) -> Sequence[T]:
    """Return parameters of tests; pytest skips a test that has none, and with it its rule.

    Raises:
        ValueError: there is none.
    """
    if not parameters:
        raise ValueError("there is nothing to make tests of: expected at least one parameter")
    return parameters
