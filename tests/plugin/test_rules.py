# SPDX-License-Identifier: GPL-2.0-only
"""Rules' tests: what counts as held, absent, violated and crashed, and how a run says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.rules.verdicts import Mark, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = """
import pytest
from pytest_iommufd import absent, rule

@rule("area.holds")
def test_holds(iommufd):
    pass

@rule("area.absent")
def test_absent(iommufd):
    absent("the kernel has no such thing (ENOTTY)")

@rule("area.skipped")
def test_skipped(iommufd):
    pytest.skip("no time")

@rule("area.marked")
@pytest.mark.skip(reason="not today")
def test_marked(iommufd):
    pass

@rule("area.violated")
def test_violated(iommufd):
    assert iommufd.fd < 0

@rule("area.crashed")
def test_crashed(process):
    process.write_file("/proc/sysrq-trigger", b"c")

@rule("area.both")
@pytest.mark.parametrize("way", [1, 2])
def test_both(iommufd, way):
    if way == 1:
        absent("in this way")

@pytest.mark.skip(reason="of no rule")
def test_of_no_rule(iommufd):
    pass
"""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "two workers"])
def test_a_run_tells_each_rule_s_verdict(
    run: Callable[..., pytest.RunResult], workers: tuple[str, ...]
) -> None:
    result = run(RULES, *workers, "-v")
    outcomes = result.parseoutcomes()
    # a skip at collection is an error of the set-up, one in the test its failure
    assert outcomes.pop("failed") + outcomes.pop("errors", 0) == 4
    assert outcomes == {"passed": 2, "skipped": 3}
    result.stdout.fnmatch_lines_random(
        [
            "area.holds *holds",
            "area.absent *absent",
            "area.skipped *violated",
            "area.marked *violated",
            "area.violated *violated",
            "area.crashed *crashed",
            "area.both *holds",
            "*: 2 holds, 1 absent, 3 violated, 1 crashed",
            "*a rule's test was skipped for no accepted reason: no time",
            "*a rule's test was skipped for no accepted reason: not today",
        ]
    )


def test_a_quiet_run_shows_only_what_is_wrong(run: Callable[..., pytest.RunResult]) -> None:
    result = run(RULES)
    result.stdout.fnmatch_lines_random(["area.crashed *", "*: 2 holds, 1 absent, *"])
    result.stdout.no_fnmatch_line("area.holds *")


def test_a_run_without_rules_says_nothing_of_them(run: Callable[..., pytest.RunResult]) -> None:
    result = run("def test_it():\n    pass\n", kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*holds*")
    result.stdout.no_fnmatch_line("iommufd: *")


@pytest.mark.parametrize("slug", ["", "one", "a.", ".a", "a..b", "a b.c", "a.b[1]", "a.b|c", "ä.b"])
def test_a_slug_of_another_form_is_refused(slug: str) -> None:
    with pytest.raises(ValueError, match="is no rule's name"):
        rule(slug)


@pytest.mark.parametrize(
    ("marks", "worst"),
    [
        ([Mark.HOLDS, Mark.ABSENT], Mark.HOLDS),
        ([Mark.ABSENT, Mark.HOLDS], Mark.HOLDS),
        ([Mark.HOLDS, Mark.VIOLATED, Mark.HOLDS], Mark.VIOLATED),
        ([Mark.ABSENT, Mark.VIOLATED], Mark.VIOLATED),
        ([Mark.VIOLATED, Mark.ABSENT], Mark.VIOLATED),
        ([Mark.CRASHED, Mark.VIOLATED], Mark.CRASHED),
        ([Mark.VIOLATED, Mark.CRASHED], Mark.CRASHED),
    ],
)
def test_the_worst_of_a_rule_s_tests_counts(marks: list[Mark], worst: Mark) -> None:
    verdicts = Verdicts()
    for mark in marks:
        verdicts.add("6.12", "a.b", mark)
    assert verdicts.marks == {"6.12": {"a.b": worst}}


def test_a_table_has_a_column_for_each_kernel() -> None:
    verdicts = Verdicts()
    verdicts.add("6.12", "a.b", Mark.HOLDS)
    verdicts.add("7.3", "a.b", Mark.VIOLATED)
    verdicts.add("7.3", "a.longer", Mark.ABSENT)
    assert [line.split() for line in verdicts.table()] == [
        ["rule", "6.12", "7.3"],
        ["a.b", "holds", "violated"],
        ["a.longer", "not", "run", "absent"],
    ]
    assert verdicts.counts("7.3") == "1 absent, 1 violated"
