# SPDX-License-Identifier: GPL-2.0-only
"""How a terminal, or a log, shows work that takes long."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from pytest_iommufd.host.progress import about, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.progress import TaskID

    from pytest_iommufd.host.progress import Progress

# A step is never shown as finished before it is.
_NEARLY = 0.99


class Plain:
    """For logs: a line for each step, and a line every half minute of a long one.

    Args:
        stream: where lines go; standard error by default.
        every: seconds between the lines of one step.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        every: float = 30,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._every = every
        self._clock = clock
        self._began = self._shown = clock()
        self._name = ""

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """See `Progress`."""
        self._name = name
        self._began = self._shown = self._clock()
        self._print(f"{name}{about(expected_seconds, ' ({})')}")

    def update(self, text: str, fraction: float | None = None) -> None:
        """See `Progress`."""
        now = self._clock()
        if now - self._shown < self._every:
            return
        self._shown = now
        percent = "" if fraction is None else f", {fraction:.0%}"
        at = f": {text}" if text else ""
        self._print(f"{self._name}, {duration(now - self._began)}{percent}{at}")

    def done(self) -> None:
        """See `Progress`."""

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Rich:
    """A bar for each step with its time, the time expected, and what it is at.

    Args:
        console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        # slow to import, and only terminals need it
        from rich import console as terminals  # noqa: PLC0415
        from rich import progress as bars  # noqa: PLC0415

        self._display = bars.Progress(
            bars.SpinnerColumn(finished_text="✓"),
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=24),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[about]}"),
            bars.TextColumn("[dim]{task.fields[text]}", markup=True),
            console=console or terminals.Console(stderr=True),
        )
        self._task: TaskID | None = None
        self._began = 0.0
        self._expected: float | None = None

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """See `Progress`."""
        self._finish()
        expected = about(expected_seconds, "of {}")
        self._task = self._display.add_task(name, total=None, about=expected, text="")
        self._began = time.monotonic()
        self._expected = expected_seconds
        self._display.start()

    def update(self, text: str, fraction: float | None = None) -> None:
        """See `Progress`."""
        if self._task is None:
            return
        if fraction is None and self._expected:
            fraction = (time.monotonic() - self._began) / self._expected
        if fraction is not None:
            self._display.update(self._task, total=1.0, completed=min(fraction, _NEARLY))
        self._display.update(self._task, text=text[:60].replace("[", r"\["))

    def done(self) -> None:
        """See `Progress`."""
        self._finish()
        self._display.stop()

    def _finish(self) -> None:
        if self._task is not None:
            self._display.update(self._task, total=1.0, completed=1.0, text="")
            self._task = None


def default() -> Progress:
    """Choose what suits standard error.

    Returns:
        A live display on a terminal, else plain lines.
    """
    return Rich() if sys.stderr.isatty() else Plain()
