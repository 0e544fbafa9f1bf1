# SPDX-License-Identifier: GPL-2.0-only
"""The progress display for terminals."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Display

from pytest_iommufd.host.progress import about

# A step is never shown as finished before it is.
_NEARLY = 0.99


class RichProgress:
    """A bar for each step with its time, the time expected, and what it is at.

    Args:
        console: where to draw; standard error by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._display = Display(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[about]}"),
            TextColumn("[dim]{task.fields[text]}", markup=True),
            console=console or Console(stderr=True),
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
