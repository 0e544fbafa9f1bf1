# SPDX-License-Identifier: GPL-2.0-only
"""What is shown of a failure, and what it says of the test's rule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pytest_iommufd
from pytest_iommufd.errors import Problem
from pytest_iommufd.machine import BootFailed, Verdict
from pytest_iommufd.plugin.kernels import name_of, spec_of
from pytest_iommufd.rules.calls import CALLS_KEY
from pytest_iommufd.rules.judging import LAST_CALLS, judge
from pytest_iommufd.rules.marker import rule_of
from pytest_iommufd.rules.model import RuleError
from pytest_iommufd.rules.verdicts import NO_KERNEL
from pytest_iommufd.uapi import UapiError

if TYPE_CHECKING:
    from collections.abc import Generator

_PACKAGE = Path(pytest_iommufd.__file__).parent


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
    stops = False
    if report.failed:
        # a wrong name or value in a test is that test's alone
        stops = bool(
            error
            and error.errisinstance((BootFailed, Problem))
            and not error.errisinstance((UapiError, RuleError))
        )
        if error and error.errisinstance((Verdict, Problem)) and not error.errisinstance(UapiError):
            report.longrepr = str(error.value)
        calls = item.stash.get(CALLS_KEY, [])
        if calls:
            report.sections.append(("iommufd calls", "\n".join(map(str, calls[-LAST_CALLS:]))))
    if rule_of(item) and not stops:
        judge(item, report, error, kernel, spec)
    if error and stops:
        item.session.shouldfail = (
            f"kernel {kernel} cannot be tested: {str(error.value).splitlines()[0]}"
        )
    return report
