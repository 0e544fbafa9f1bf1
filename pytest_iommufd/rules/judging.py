# SPDX-License-Identifier: GPL-2.0-only
"""From pytest's report of a rule's test to the rule's result.

A test is xfailed in which the kernel did what the catalogue lists as a defect of the rule, or did
something else where nobody has promised what it does. A test that is wrong says nothing of its
rule.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.iommufd import IoctlError
from pytest_iommufd.machine import AgentFailed, KernelSplat, Verdict
from pytest_iommufd.machine.splat import find_splats
from pytest_iommufd.rules.calls import CALLS_KEY
from pytest_iommufd.rules.catalogue import rule_in
from pytest_iommufd.rules.expectation import EXPECTATION
from pytest_iommufd.rules.marker import ABSENT, rule_of
from pytest_iommufd.rules.model import RuleError
from pytest_iommufd.rules.verdicts import Mark, Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.rules.model import Defect, Rule

LAST_CALLS = 12
_TIME = re.compile(r"^\[ *\d+\.\d+\] ")
_PROPERTY = "iommufd_rule"


def judge(
    item: pytest.Item,
    report: pytest.TestReport,
    error: pytest.ExceptionInfo[BaseException] | None,
    kernel: str,
    spec: str,
    untested: str = "",
) -> None:
    """Give a report the outcome that its rule demands, and the rule's result.

    Args:
        item: a rule's test.
        report: of one of its phases.
        error: what that phase ended with.
        kernel: the kernel's name.
        spec: as it was asked for.
        untested: why the test says nothing of the rule, "" when it does.
    """
    if untested:
        nothing = Result(
            kernel,
            rule_of(item),
            spec=spec,
            reason=untested,
            nodeid=item.nodeid,
            path=str(item.path),
        )
        report.user_properties.append((_PROPERTY, nothing.packed()))
        return
    expectation = item.stash.get(EXPECTATION, None)
    if _fail_idle(report, expectation) or (error and error.errisinstance(RuleError)):
        return
    # a test that is wrong is no defect that is known
    wrong = _fail_odd_skip(report) or bool(error and error.errisinstance(Problem))
    mark = _mark(report, error)
    if mark is None:
        return
    reason = _reason(report, error) if mark is not Mark.HOLDS else ""
    defect = None
    if expectation and not wrong:
        defect = _shown(expectation, mark, _lines(error.value if error else None, reason))
    known = defect.why if defect else ""
    expected = expectation.result if expectation else ""
    got = expectation.got if expectation and mark is not Mark.CRASHED else ""
    got = got or (expected if mark is Mark.HOLDS else "")
    if defect:
        got, reason = defect.gives, reason or f"expected {expected}, got {got}"
        report.outcome, report.wasxfail = "skipped", known
    elif hasattr(report, "wasxfail") and report.skipped:
        known = report.wasxfail or "xfail"
    if known:
        mark = Mark.DEFECT
    elif mark is Mark.VIOLATED and not wrong and (rule := _merely_differing(item, report, error)):
        mark, report.outcome, report.wasxfail = Mark.DIFFERS, "skipped", f"differs: {reason}"
        known = next((one.why for one in rule.differences if _explains(one, got, reason)), "")
    shown = mark in {Mark.VIOLATED, Mark.CRASHED, Mark.DEFECT}
    calls = _calls(item, expectation) if shown else ()
    verdict = error.value if error and isinstance(error.value, Verdict) else None
    result = Result(
        kernel=kernel,
        slug=rule_of(item),
        mark=mark,
        spec=spec,
        dialect=str(getattr(item, "funcargs", {}).get("dialect", "")),
        expected=expected,
        got=got,
        reason=reason,
        known=known,
        console=verdict.console if verdict else "",
        nodeid=item.nodeid,
        path=str(item.path),
        calls=calls,
    )
    report.user_properties.append((_PROPERTY, result.packed()))


def _calls(item: pytest.Item, expectation: Expectation | None) -> tuple[str, ...]:
    """Put the last calls of a test into words, and what was expected of those that it judged."""
    judged = {id(call) for call in expectation.judged} if expectation else set()
    wants = f", expected {expectation.result}" if expectation else ""
    calls = item.stash.get(CALLS_KEY, [])[-LAST_CALLS:]
    return tuple(f"{call}{wants if id(call) in judged else ''}" for call in calls)


def results(report: pytest.TestReport) -> Iterator[Result]:
    """Return what judge() found, here or in another process."""
    for key, value in report.user_properties:
        if key == _PROPERTY and isinstance(value, dict):
            yield Result.unpacked(value)


def _shown(expectation: Expectation, mark: Mark, lines: list[str]) -> Defect | None:
    """Return the known defect that a test has shown: by a call's result, or by how it failed."""
    if mark is Mark.HOLDS:
        return expectation.defect
    return next(
        (one for one in expectation.defects if one.gives == mark.value and one.is_shown_by(lines)),
        None,
    )


def _lines(error: BaseException | None, reason: str) -> list[str]:
    """Return what a failure says: its reason, and a sentence for each splat."""
    if not isinstance(error, Verdict):
        return [reason]
    # a console has the time in front of each line, a log has not
    lines = [_TIME.sub("", line) for line in error.console.splitlines()]
    splats = [splat.sentence for splat in find_splats(lines)]
    if not isinstance(error, KernelSplat):
        return [error.what, *splats]
    # the splat hides what else the test failed with
    cause = error.__cause__
    return [*([_said(cause)] if cause else []), *(splats or [error.what])]


def _merely_differing(
    item: pytest.Item,
    report: pytest.TestReport,
    error: pytest.ExceptionInfo[BaseException] | None,
) -> Rule | None:
    """Return the rule of a test that failed by what nobody has promised, in its own lines."""
    rule = rule_in(item.path.parent, rule_of(item))
    fails = report.when == "call" and error and error.errisinstance((AssertionError, IoctlError))
    strict = item.config.option.iommufd_strict
    return rule if rule and rule.behaviour and fails and not strict else None


def _explains(difference: Defect, got: str, reason: str) -> bool:
    """Tell whether it is known that a kernel may do this."""
    if difference.gives == Mark.VIOLATED.value:
        return difference.is_shown_by([reason])
    return difference.gives == got


def _fail_idle(report: pytest.TestReport, expectation: Expectation | None) -> bool:
    if not (expectation and expectation.idle and report.when == "call" and report.passed):
        return False
    report.outcome = "failed"
    report.longrepr = "the test asks what its rule expects, and judges no call by it"
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
    if error and isinstance(error.value, AgentFailed):
        return Mark.NOT_RUN
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
    if value is None or (
        isinstance(report.longrepr, str) and not isinstance(value, Verdict | Problem)
    ):
        return _first(str(report.longrepr))
    return _said(value)


def _said(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    if isinstance(error, Verdict | Problem):
        return error.what
    text = _first(str(error))
    if text and isinstance(error, AssertionError | pytest.fail.Exception):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _first(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
