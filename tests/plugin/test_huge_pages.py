# SPDX-License-Identifier: GPL-2.0-only
"""Rules of huge pages under a kernel that keeps too few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

RULES = """
import pytest
from pytest_iommufd import rule

KEPT = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

@pytest.fixture
def one_kept(process):
    process.write_file(KEPT, b"1")
    yield
    process.write_file(KEPT, b"8")

@rule("area.few")
def test_few(one_kept, huge_buffer):
    pass

@rule("area.in_use")
def test_in_use(huge_buffers):
    for _ in range(5):
        huge_buffers(kind="memfd")
"""


def test_a_rule_is_absent_if_too_few_huge_pages_are_kept(
    run: Callable[..., pytest.RunResult],
) -> None:
    result = run(RULES, "-rs")
    result.assert_outcomes(skipped=1, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "*absent: the machine keeps 1 huge pages: echo 8 > *2048kB/nr_hugepages keeps enough",
            "*OSError*Cannot allocate memory*",
        ]
    )
