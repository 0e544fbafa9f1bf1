# SPDX-License-Identifier: GPL-2.0-only
"""From pytest's report of a rule's test to the rule's result, known defects told apart.

A rule whose catalogue says that it is known not to hold must fail, and in the way that it says:
then its test is xfailed, whichever part of it failed first. It fails if no part did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.machine import KernelSplat, Verdict
from pytest_iommufd.rules.calls import CALLS_KEY
from pytest_iommufd.rules.expectation import EXPECTATION
from pytest_iommufd.rules.marker import ABSENT, rule_of
from pytest_iommufd.rules.verdicts import Mark, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_CALLS = 12
_PROPERTY = "iommufd_rule"
_OPEN = "iommufd_rule_open"
# Of a known defect's test: what it came to so far.
_STATE = pytest.StashKey[str]()
_HELD, _SHOWN, _FAILED = "the call held", "the defect was shown", "failed in another way"


def judge(
    item: pytest.Item,
    report: pytest.TestReport,
    error: pytest.ExceptionInfo[BaseException] | None,
    kernel: str,
    spec: str,
) -> None:
    """Give a report the outcome that its rule demands, and the rule's result.

    Args:
        item: a rule's test.
        report: of one of its phases.
        error: what that phase ended with.
        kernel: the kernel's name.
        spec: as it was asked for.
    """
    if report.when == "setup":
        item.stash[_STATE] = ""
    odd = _fail_odd_skip(report)
    expectation = item.stash.get(EXPECTATION, None)
    known = expectation.known if expectation else ""
    # a test that is wrong is no defect that is known
    if odd or (error and error.errisinstance(Problem)):
        known = ""
    mark = _mark(report, error)
    reason = _reason(report, error) if mark not in {None, Mark.HOLDS} else ""
    if known and mark in {Mark.VIOLATED, Mark.CRASHED} and not known.startswith(mark.value):
        # something else than what is known
        reason, known = f"{reason} (known here: {known})", ""
    if known:
        if mark is Mark.HOLDS:
            item.stash[_STATE] = _HELD
            report.user_properties.append((_OPEN, True))
            return
        if mark is None and report.when == "teardown" and item.stash.get(_STATE, "") == _HELD:
            mark = Mark.HOLDS
            reason = f"known not to hold here, and it did: {known}"
            report.outcome, report.longrepr = "failed", reason
        elif mark in {Mark.VIOLATED, Mark.CRASHED} and not _forgive(item, report, mark, known):
            known = ""
    elif hasattr(report, "wasxfail") and report.skipped:
        known = report.wasxfail or "xfail"
    if mark is None:
        return
    verdict = error.value if error and isinstance(error.value, Verdict) else None
    expected = expectation.result if expectation else ""
    got = expectation.got if expectation and mark is not Mark.CRASHED else ""
    calls = item.stash.get(CALLS_KEY, []) if mark in {Mark.VIOLATED, Mark.CRASHED} else []
    result = Result(
        kernel=kernel,
        slug=rule_of(item),
        mark=mark,
        spec=spec,
        dialect=str(getattr(item, "funcargs", {}).get("dialect", "")),
        expected=expected,
        got=got or (expected if mark is Mark.HOLDS else ""),
        reason=reason,
        known="" if mark is Mark.ABSENT else known,
        console=verdict.console if verdict else "",
        nodeid=item.nodeid,
        path=str(item.path),
        calls=tuple(map(str, calls[-LAST_CALLS:])),
    )
    report.user_properties.append((_PROPERTY, result.packed()))


def results(report: pytest.TestReport) -> Iterator[Result]:
    """Return what judge() found, here or in another process."""
    for key, value in report.user_properties:
        if key == _PROPERTY and isinstance(value, dict):
            yield Result.unpacked(value)


def status(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Return how a report of a known defect's test counts where that is not as usual.

    Its call counts only with what follows it, and with that as a failure of the test.
    """
    if any(key == _OPEN for key, _ in report.user_properties):
        return "", "", ""
    if report.failed and any(one.mark is Mark.HOLDS for one in results(report)):
        return "failed", "F", "FAILED"
    return None


def _forgive(item: pytest.Item, report: pytest.TestReport, mark: Mark, known: str) -> bool:
    """Make a failure an expected one if it is the one that is known.

    What else fails of the same test then does not count.
    """
    state = item.stash.get(_STATE, "")
    if state == _SHOWN:
        report.outcome, report.longrepr = "passed", None
        return True
    if state == _FAILED or not known.startswith(mark.value):
        item.stash[_STATE] = _FAILED
        return False
    item.stash[_STATE] = _SHOWN
    report.outcome = "skipped"
    report.wasxfail = known
    return True


def _fail_odd_skip(report: pytest.TestReport) -> bool:
    if not report.skipped or hasattr(report, "wasxfail") or not isinstance(report.longrepr, tuple):
        return False
    reason = _skipped(report.longrepr)
    if reason.startswith(ABSENT):
        return False
    report.outcome = "failed"
    report.longrepr = f"a rule's test was skipped for no accepted reason: {reason}"
    return True


def _skipped(longrepr: tuple[str, int, str]) -> str:
    return longrepr[2].removeprefix("Skipped: ")


def _mark(
    report: pytest.TestReport, error: pytest.ExceptionInfo[BaseException] | None
) -> Mark | None:
    if report.failed or (report.skipped and hasattr(report, "wasxfail")):
        return Mark.CRASHED if error and _is_crash(error.value) else Mark.VIOLATED
    if report.skipped:
        return Mark.ABSENT
    return Mark.HOLDS if report.when == "call" else None


def _is_crash(error: BaseException) -> bool:
    """Tell a kernel or process that was lost from a splat that it went on after."""
    if isinstance(error, KernelSplat):
        return isinstance(error.__cause__, Verdict)
    return isinstance(error, Verdict)


def _reason(report: pytest.TestReport, error: pytest.ExceptionInfo[BaseException] | None) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return _skipped(report.longrepr).removeprefix(ABSENT)
    value = error.value if error else None
    if isinstance(value, Verdict | Problem):
        return value.what
    if value is None or isinstance(report.longrepr, str):
        return _first(str(report.longrepr))
    text = _first(str(value))
    if text and isinstance(value, AssertionError | pytest.fail.Exception):
        return text
    return f"{type(value).__name__}: {text}" if text else type(value).__name__


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
