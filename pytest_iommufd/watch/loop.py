# SPDX-License-Identifier: GPL-2.0-only
"""Build, test, show, and wait for what is saved next."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.build.make import BuildError
from pytest_iommufd.watch.changes import Saved
from pytest_iommufd.watch.difference import counts
from pytest_iommufd.watch.display import Spinner

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.workspace import Workspace
    from pytest_iommufd.watch.changes import Changes
    from pytest_iommufd.watch.display import Display
    from pytest_iommufd.watch.tests import Outcome, Tests


class Superseded(Exception):  # noqa: N818 - nothing is wrong
    """What is built or tested is not what is in the tree any more."""


class Interruptible:
    """Progress that asks every time whether the work is still wanted.

    Args:
        inner: shows it.
        check: raises what ends the work.
    """

    def __init__(self, inner: Progress, check: Callable[[], None]) -> None:
        self._inner = inner
        self._check = check

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """See `Progress`."""
        self._check()
        self._inner.step(name, expected_seconds)

    def update(self, text: str, fraction: float | None = None) -> None:
        """See `Progress`."""
        self._check()
        self._inner.update(text, fraction)

    def done(self) -> None:
        """See `Progress`."""
        self._inner.done()


class Loop:
    """The loop.

    Args:
        workspace: builds the tree.
        changes: tells what is saved in it, from before now.
        tests: runs the tests.
        display: shows what came out.
    """

    def __init__(
        self, workspace: Workspace, changes: Changes, tests: Tests, display: Display
    ) -> None:
        self._workspace = workspace
        self._changes = changes
        self._tests = tests
        self._display = display
        self._spinner = Spinner(display.console)
        self._last: Outcome | None = None
        # Not looked at yet; at first that is the whole tree.
        self._saved = Saved(None)
        self._untested = True

    def run(self) -> None:
        """Go on until interrupted.

        Raises:
            Problem: the first run cannot be, or the tree cannot be watched any more.
        """
        while True:
            try:
                with contextlib.suppress(Superseded):
                    self._turn()
                    self._changes.wait()
            except Problem as problem:
                if self._last is None:
                    raise
                self._display.line(f"  {problem}", "red")
                self._changes.wait()
            finally:
                self._spinner.done()

    def _turn(self) -> None:
        """Come to a verdict on what is in the tree now, if it is not that of the last turn."""
        self._saved |= self._changes.take()
        at = self._saved.at
        names = self._workspace.differing(self._saved.paths, self._spinner)
        self._workspace.bring(names)
        self._saved = Saved()
        if names:
            self._untested = True
            self._display.saved(names)
        if self._untested:
            self._judge(at)
            self._untested = False

    def _judge(self, at: float) -> None:
        began = time.monotonic()
        progress = Interruptible(self._spinner, self._check)
        try:
            built = self._workspace.build(progress)
        except BuildError as error:
            self._spinner.done()
            self._display.messages(error.messages, self._workspace.source, self._workspace.log)
            self._display.line(f"  does not build{_after(at)}", "red")
            return
        spent = f"{built} {time.monotonic() - began:.1f} s, " if built else ""
        outcome = self._tests.run(progress)
        self._spinner.done()
        spent += f"{_several(outcome.tests, 'test')} {outcome.seconds:.1f} s"
        self._show(outcome, spent, at)

    def _show(self, outcome: Outcome, spent: str, at: float) -> None:
        before = self._last
        changed = 0
        if outcome.stopped:
            self._display.line(f"  {outcome.stopped}", "red")
        elif before is None:
            self._display.violated(outcome)
        else:
            changed = self._display.difference(before, outcome)
        if not outcome.stopped:
            self._last = outcome
        told = "" if before is None else f"{_several(changed, 'difference')}: "
        self._display.line(f"  {told}{counts(outcome.rules)} ({spent}){_after(at)}")
        if outcome.failed and (changed or not outcome.bad):
            self._display.line(f"  all that pytest says: {self._tests.log}", "dim")

    def _check(self) -> None:
        """See whether something else is in the tree by now.

        Raises:
            Superseded: so it is.
        """
        taken = self._changes.take()
        if not taken:
            return
        try:
            differs = taken.paths is None or self._workspace.differing(taken.paths, self._spinner)
        except Problem:
            differs = True  # which the next turn shows
        if differs:
            self._saved |= taken
            raise Superseded


def _several(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'s' * (count != 1)}"


def _after(at: float) -> str:
    """Say how long ago something was saved, "" if nothing was."""
    return f", {time.time() - at:.1f} s after the save" if at else ""
