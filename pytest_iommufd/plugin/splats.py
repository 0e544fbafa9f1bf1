# SPDX-License-Identifier: GPL-2.0-only
"""Ties splats in the kernel log to the test during which they appeared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import pytest

from pytest_iommufd.machine import KernelSplat, Machine, MachineLost
from pytest_iommufd.machine.splat import find_splats

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType


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
        unexpected = [
            splat
            for splat in splats
            if not any(re.search(pattern, splat.title) for pattern in self._expected)
        ]
        if unexpected:
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
    """Likewise."""
    with SplatWatch.of(item, must_come=False):
        return (yield)
