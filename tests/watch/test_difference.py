# SPDX-License-Identifier: GPL-2.0-only
"""What is told of two runs: only what differs."""

from __future__ import annotations

from pytest_iommufd.rules.verdicts import Mark
from pytest_iommufd.watch.difference import counts, differences
from pytest_iommufd.watch.tests import Verdict

HOLDS = Verdict(Mark.HOLDS, "EINVAL", "")
OTHERWISE = Verdict(Mark.HOLDS, "ENOENT", "")
VIOLATED = Verdict(Mark.VIOLATED, "OK", "expected EINVAL, but the call went well")
WORSE = Verdict(Mark.VIOLATED, "ENOENT", "expected EINVAL, got ENOENT")
CRASHED = Verdict(Mark.CRASHED, "crashed", "kernel panic")
KNOWN = Verdict(Mark.DEFECT, "OK", "expected EINVAL, got OK")
ABSENT = Verdict(Mark.ABSENT, "absent", "the kernel lacks it")


def told(before: dict[str, Verdict], after: dict[str, Verdict]) -> list[tuple[str, str, bool]]:
    return [(str(one), one.reason, one.worse) for one in differences(before, after)]


def test_nothing() -> None:
    same = {"a": HOLDS, "b": VIOLATED, "c": ABSENT}
    assert told(same, dict(same)) == told({}, {}) == []


def test_violated_and_crashed() -> None:
    assert told(
        {"a": HOLDS, "b": HOLDS, "c": HOLDS}, {"a": VIOLATED, "b": HOLDS, "c": CRASHED}
    ) == [
        ("a: holds -> violated", VIOLATED.reason, True),
        ("c: holds -> crashed", "kernel panic", True),
    ]


def test_mended() -> None:
    assert told({"a": CRASHED}, {"a": HOLDS}) == [("a: crashed -> holds", "", False)]


def test_absent_has_no_fault() -> None:
    assert told({"a": HOLDS}, {"a": ABSENT}) == [("a: holds -> absent", "", False)]


def test_known() -> None:
    assert told({"a": HOLDS}, {"a": KNOWN}) == [("a: holds -> known defect", "", False)]


def test_violated_in_another_way() -> None:
    assert told({"a": VIOLATED}, {"a": WORSE}) == [
        ("a: violated (OK) -> violated (ENOENT)", WORSE.reason, True)
    ]


def test_holds_with_another_result() -> None:
    assert told({"a": HOLDS}, {"a": OTHERWISE}) == [
        ("a: holds (EINVAL) -> holds (ENOENT)", "", False)
    ]


def test_another_reason_alone_is_no_difference() -> None:
    later = Verdict(VIOLATED.mark, VIOLATED.gave, "at another address")
    assert told({"a": VIOLATED}, {"a": later}) == []


def test_new_and_gone_in_order() -> None:
    assert told({"z": HOLDS, "b": VIOLATED, "a": HOLDS}, {"c": VIOLATED, "a": HOLDS}) == [
        ("c: new, violated", VIOLATED.reason, True),
        ("z: holds -> gone", "", False),
        ("b: violated -> gone", "", False),
    ]


def test_counts() -> None:
    rules = {"a": ABSENT, "b": HOLDS, "c": HOLDS, "d": VIOLATED, "e": CRASHED}
    assert counts(rules) == "2 hold, 1 violated, 1 crashed, 1 absent"
    assert counts({}) == ""
