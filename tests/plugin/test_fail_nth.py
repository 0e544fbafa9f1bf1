# SPDX-License-Identifier: GPL-2.0-only
"""--fail-nth: what ends a test before the call that its rule is about says nothing of the rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Run = Callable[..., pytest.RunResult]

CATALOGUE = """
["area.alloc"]
says = "An IOAS is allocated."
source = ["ioas.c:iommufd_ioas_alloc_ioctl"]
expect = "OK"
"""
LATE = """
from pytest_iommufd import rule

@rule("area.alloc")
def test_alloc(iommufd, expected):
    iommufd.ioas_alloc()
    with expected:
        iommufd.ioas_alloc()
"""


def test_a_failure_before_the_judged_call_fails_nothing(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makefile(".toml", rules=CATALOGUE)
    result = run(LATE, "--fail-nth")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*: 1 holds"])
