# SPDX-License-Identifier: GPL-2.0-only
"""What a user sees while a kernel is made."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable


_WORTH_SAYING = 2.0


class Progress(Protocol):
    """Receives what goes on; steps come one after the other."""

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """Begin a step, which ends the one before.

        Args:
            name: what is being done, for people.
            expected_seconds: how long it is likely to take, None when not known.
        """

    def update(self, text: str, fraction: float | None = None) -> None:
        """Tell that the step goes on; called at least once a second.

        Args:
            text: what it is at, for people; may be empty.
            fraction: how much of it is done, 0 to 1, None when not known.
        """

    def done(self) -> None:
        """End the last step; nothing follows."""


class Silent:
    """Shows nothing."""

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """See `Progress`."""

    def update(self, text: str, fraction: float | None = None) -> None:
        """See `Progress`."""

    def done(self) -> None:
        """See `Progress`."""


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


def about(expected_seconds: float | None, template: str) -> str:
    """Say how long a step is likely to take, if that is worth saying.

    Args:
        expected_seconds: as for `Progress.step`.
        template: where to put it, with a `{}`.

    Returns:
        The template filled in; empty when the time is not known or is short.
    """
    if expected_seconds is None or expected_seconds < _WORTH_SAYING:
        return ""
    return template.format(f"about {duration(expected_seconds)}")


def duration(seconds: float) -> str:
    """Seconds as people say them.

    Args:
        seconds: a length of time.

    Returns:
        `45 s`, `3 min 05 s`.
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def default() -> Progress:
    """Choose what suits standard error.

    Returns:
        A live display on a terminal, else plain lines.
    """
    if not sys.stderr.isatty():
        return Plain()
    from pytest_iommufd.host.live import RichProgress  # noqa: PLC0415 - rich is slow to import

    return RichProgress()
