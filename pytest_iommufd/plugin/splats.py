# SPDX-License-Identifier: GPL-2.0-only
"""Ties splats in the kernel log to the test during which they appeared."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Self

import pytest

from pytest_iommufd.machine import KernelSplat, Machine, MachineLost
from pytest_iommufd.machine.aftermath import settle
from pytest_iommufd.machine.autopsy import stood_still
from pytest_iommufd.machine.splat import Splat, find_splats

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

# Of the time that a kernel says it made no progress, what it must have stood still.
_STILL = 0.25
# A kernel complains some time after it was to, and is heard some time after that.
_SLACK = 5.0


class SplatWatch:
    """Watches a machine's log over a phase of a test, and what was printed since the last one.

    Args:
        machine: tells at the end whose log, or None to watch nothing.
        expected: patterns of the titles of splats that may appear.
        must_come: whether they must.
    """

    def __init__(
        self,
        machine: Callable[[], Machine | None],
        expected: tuple[str, ...] = (),
        *,
        must_come: bool = True,
    ) -> None:
        self._machine = machine
        self._expected = expected
        self._must_come = must_come

    @classmethod
    def of(cls, item: pytest.Item, *, must_come: bool) -> Self:
        """Watch the machine that a test uses, with what its markers expect."""

        def machine() -> Machine | None:
            found = getattr(item, "funcargs", {}).get("machine")
            return found if isinstance(found, Machine) else None

        markers = item.iter_markers("expect_splat")
        return cls(machine, tuple(str(each.args[0]) for each in markers), must_come=must_come)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        machine = self._machine()
        if machine is None:
            return
        # complete up to the last answer: what was printed during a call came before it
        printed = machine.unseen_log()
        if isinstance(error, MachineLost | KeyboardInterrupt):
            return
        splats = find_splats(printed)
        machine.splats += splats
        unexpected = [
            splat
            for splat in splats
            if not any(re.search(pattern, splat.title) for pattern in self._expected)
        ]
        if unexpected:
            self._excuse_stalls(machine, unexpected, error)
            count = f"{len(unexpected)} unexpected splats" if len(unexpected) > 1 else "a splat"
            raise KernelSplat(
                f"{count} in the kernel log: {unexpected[0].title}",
                console="\n".join(splat.text for splat in unexpected),
            ) from error
        if error is None and self._must_come:
            for pattern in self._expected:
                if not any(re.search(pattern, splat.title) for splat in splats):
                    pytest.fail(
                        f"the kernel log has no splat whose title matches {pattern!r}",
                        pytrace=False,
                    )

    def settle(self) -> None:
        """Have the machine report again what it has reported, once the test has ended."""
        machine = self._machine()
        if machine:
            splats, machine.splats = machine.splats, []
            settle(machine, splats)

    def _excuse_stalls(
        self, machine: Machine, splats: list[Splat], error: BaseException | None
    ) -> None:
        """Find out whether a kernel that complains of nothing but stalls could run at all.

        Raises:
            StoodStill: it could not, for a quarter of the time that it says, or more.
        """
        longest = max(splat.stall for splat in splats)
        since = min(self._began, time.monotonic() - longest) - _SLACK
        still, why = machine.still(since)
        if all(splat.stall for splat in splats) and still > longest * _STILL:
            what = f"for {still:.1f} s: {why} ({splats[0].title})"
            raise stood_still(machine, what) from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test during which the kernel log got a splat that it does not expect."""
    with SplatWatch.of(item, must_come=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Likewise; one that it expects must come in this phase."""
    with SplatWatch.of(item, must_come=True):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Likewise; then the machine is got ready for the next test."""
    watch = SplatWatch.of(item, must_come=False)
    try:
        with watch:
            return (yield)
    finally:
        watch.settle()
