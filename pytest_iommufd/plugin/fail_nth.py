# SPDX-License-Identifier: GPL-2.0-only
"""Runs tests again and again, each time with one more point of one of their ioctls failing.

The kernel's fault injection makes the nth point that can fail in a call fail (fail-nth): memory,
and what iommufd marks as such. A test with the marker `fail_nth`, or with --fail-nth each test
whose calls must succeed, is run as usual; then, for each ioctl that it makes by itself, with the
first point failing, the second, and so on until none is left. A call may get along without what
failed, or fail with the errno that belongs to it; then the test ends there. Nothing may leak, and
nothing may be printed besides the note of the injection.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from pytest_iommufd.iommufd.injection import Injection
from pytest_iommufd.iommufd.request import InjectedFailure
from pytest_iommufd.machine import Machine
from pytest_iommufd.plugin.kernels import spec_of
from pytest_iommufd.rules.expectation import EXPECTATION
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Generator


MARKER, NOT_MARKER = "fail_nth", "no_fail_nth"
# More than any call has, in case that a kernel does not say when none is left.
MOST_POINTS = 400
_NOTE = re.compile(r"name (?P<name>\w+), interval")
_FRAME = re.compile(r"^ *(?:\[[ .\d]*\] *)?(?P<function>\w+)\+0x")
# What fails where fail_iommufd is asked (iommufd_should_fail), by the function that asks.
_SITES = {
    "iommufd_get_object": errno.ENOENT,
    "mock_domain_map_pages": errno.ENOENT,
    "pfn_reader_user_pin": errno.EFAULT,
    "pages_to_xarray": errno.EINVAL,
    "iopt_pages_rw_page": errno.EINVAL,
    "iopt_table_enforce_dev_resv_regions": errno.EINVAL,
    "temp_kmalloc": errno.ENOMEM,
    "pfn_reader_user_update_pinned": errno.ENOMEM,
}
# Where a call gives a failure another errno: a pt_id that is not found; what the driver core says
# of a mock device that it cannot make.
_RENAMED = {
    ("IOMMU_HWPT_ALLOC", errno.ENOENT): errno.EINVAL,
    ("IOMMU_TEST_CMD", errno.ENOENT): errno.EINVAL,
    ("IOMMU_TEST_CMD", errno.ENOMEM): errno.EINVAL,
}
_INJECTION = pytest.StashKey[Injection]()


@dataclass(frozen=True)
class _Chain:
    """Stands for the next item of a test that is run again: only what is the test's own ends."""

    item: pytest.Item

    def listchain(self) -> list[object]:
        return list(self.item.listchain()[:-1])


def run(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a test as usual, then with failures."""
    undisturbed = Injection(-1, 0)
    reports = _run(item, undisturbed)
    if all(report.passed for report in reports) and _must_succeed(item):
        usual = [call.errno for call in undisturbed.made]
        reports = _run_with_failures(item, reports, usual)
    # what this test shares with others ends if it was the last
    item.session._setupstate.teardown_exact(nextitem)  # noqa: SLF001 - pytest's own protocol
    return reports


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Inject; a failure that is as it should be ends the test well."""
    injection = item.stash.get(_INJECTION, None)
    machine = getattr(item, "funcargs", {}).get("machine")
    if injection is None or not isinstance(machine, Machine):
        return (yield)
    before = len(machine.log)
    machine.observers.insert(0, injection)  # before those who note what is done
    try:
        return (yield)
    except InjectedFailure as failure:
        _check(failure, machine.log[before:])
        if expectation := item.stash.get(EXPECTATION, None):
            expectation.idle = False  # the test did not get to the call that is judged
        return None
    finally:
        machine.observers.remove(injection)


def is_wanted(item: pytest.Item) -> bool:
    """Tell whether failures are for a test; other people's may be marked with that word."""
    if not spec_of(item):
        return False
    if item.get_closest_marker(MARKER):
        return True
    return item.config.option.iommufd_fail_nth and not item.get_closest_marker(NOT_MARKER)


def _must_succeed(item: pytest.Item) -> bool:
    expectation = item.stash.get(EXPECTATION, None)
    return expectation is None or expectation.ok


def _run(item: pytest.Item, injection: Injection) -> list[pytest.TestReport]:
    item._initrequest()  # type: ignore[attr-defined]  # noqa: SLF001 - as pytest does it
    item.stash[_INJECTION] = injection
    try:
        return runtestprotocol(item, nextitem=_Chain(item), log=False)  # type: ignore[arg-type]
    finally:
        del item.stash[_INJECTION]


def _run_with_failures(
    item: pytest.Item, good: list[pytest.TestReport], usual: list[int]
) -> list[pytest.TestReport]:
    points = 0
    at = 0
    while True:
        for nth in range(1, MOST_POINTS):
            injection = Injection(at, nth, usual)
            reports = _run(item, injection)
            if not all(report.passed for report in reports):
                for report in reports:
                    if report.failed:
                        report.sections.append(("fail_nth", str(injection)))
                return reports
            if not injection.fired:
                break
            points += 1
        if injection.call is None:
            break
        at += 1
    for report in good:
        if report.when == "call":
            report.user_properties.append(("fail_nth_points", points))
    return good


def _check(failure: InjectedFailure, printed: list[str]) -> None:
    """See that a call failed with the errno of what was made to fail."""
    right = _right(failure.error.ioctl, printed)
    if failure.error.errno not in right:
        names = " or ".join(sorted(errno_name(number) for number in right))
        raise AssertionError(f"with a failure injected: expected {names}, got {failure.error}")


def _right(ioctl: str, printed: list[str]) -> set[int]:
    """Tell which errnos belong to a failure, by the kernel's note of it."""
    text = "\n".join(printed)
    noted = _NOTE.search(text)
    functions = [found["function"] for line in printed if (found := _FRAME.search(line))]
    sites = {_SITES[name] for name in functions if name in _SITES} or set(_SITES.values())
    if noted and noted["name"] != "fail_iommufd":
        sites = {errno.ENOMEM}
    return sites | {_RENAMED[ioctl, site] for site in sites if (ioctl, site) in _RENAMED}
