# SPDX-License-Identifier: GPL-2.0-only
"""Runs a test again whose machine stood still."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from pytest_iommufd.lab import LAB
from pytest_iommufd.machine import StoodStill
from pytest_iommufd.plugin import fail_nth
from pytest_iommufd.plugin.kernels import spec_of

if TYPE_CHECKING:
    from collections.abc import Generator

_TRIES = 3
_STILL = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that uses a kernel, again if need be, and report the last try."""
    if not spec_of(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _run(item, nextitem):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _run(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    for left in reversed(range(_TRIES)):
        item.stash[_STILL] = ""
        if fail_nth.is_wanted(item):
            reports = fail_nth.run(item, nextitem)
        else:
            item._initrequest()  # type: ignore[attr-defined]  # noqa: SLF001 - as pytest does it
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
        still = item.stash[_STILL]
        if not still or not left:
            break
        # what others have made in the machine is lost; how its end went is of no interest
        with contextlib.suppress(Exception):
            item.session._setupstate.teardown_exact(None)  # noqa: SLF001 - pytest's own protocol
        machine = item.config.stash[LAB].bench(spec_of(item)).machine
        machine.remarks.append(f"{still}; the test was run again")
    return reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that a machine stood still."""
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, StoodStill):
        item.stash[_STILL] = call.excinfo.value.what
    return report
