# SPDX-License-Identifier: GPL-2.0-only
"""What is shown of a failure, and what it says of the test's rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_iommufd
from pytest_iommufd.errors import Problem
from pytest_iommufd.machine import BootFailed, StoodStill, Verdict
from pytest_iommufd.plugin.kernels import name_of, spec_of
from pytest_iommufd.plugin.remarks import REMARK
from pytest_iommufd.rules.calls import CALLS_KEY
from pytest_iommufd.rules.judging import LAST_CALLS, judge
from pytest_iommufd.rules.marker import NOT_RUN, rule_of
from pytest_iommufd.rules.model import RuleError
from pytest_iommufd.rules.verdicts import NO_KERNEL
from pytest_iommufd.uapi import UapiError

if TYPE_CHECKING:
    from collections.abc import Generator

# Why a kernel cannot be tested, by its spec.
_UNTESTABLE = pytest.StashKey[dict[str, str]]()
_PACKAGE = Path(pytest_iommufd.__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Run no more tests on a kernel that could not be tested once."""
    why = item.config.stash.get(_UNTESTABLE, {}).get(spec_of(item))
    if why:
        pytest.skip(f"{NOT_RUN}{why}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failure without our own frames, with the calls; give a rule its result."""
    error = call.excinfo
    if error and not error.errisinstance(pytest.skip.Exception):
        error.traceback = (
            error.traceback.filter(
                lambda entry: (
                    _PACKAGE not in Path(entry.path).parents
                    or not {"suites", "fixtures"}.isdisjoint(Path(entry.path).parts)
                )
            )
            or error.traceback
        )
    report = yield
    spec = spec_of(item)
    kernel = name_of(spec) if spec else NO_KERNEL
    untested = _untested(item, report, error)
    if report.failed:
        if error and error.errisinstance((Verdict, Problem)) and not error.errisinstance(UapiError):
            report.longrepr = str(error.value)
        calls = item.stash.get(CALLS_KEY, [])
        if calls:
            report.sections.append(("iommufd calls", "\n".join(map(str, calls[-LAST_CALLS:]))))
    if rule_of(item):
        judge(item, report, error, kernel, spec, untested)
    return report


def _untested(
    item: pytest.Item,
    report: pytest.TestReport,
    error: pytest.ExceptionInfo[BaseException] | None,
) -> str:
    """Tell why a test says nothing of its rule; note it where its kernel cannot be tested."""
    found, spec = error.value if error else None, spec_of(item)
    if isinstance(found, StoodStill):
        return found.what
    # a wrong name or value in a test is that test's alone
    if isinstance(found, BootFailed | Problem) and not isinstance(found, UapiError | RuleError):
        if not spec:
            return found.what
        what = found.what.splitlines()[0]
        why = f"kernel {name_of(spec)} cannot be tested: {what}"
        item.config.stash.setdefault(_UNTESTABLE, {})[spec] = why
        report.user_properties.append((REMARK, why))
        return why
    if isinstance(found, pytest.skip.Exception) and str(found).startswith(NOT_RUN):
        return str(found).removeprefix(NOT_RUN)
    return ""
