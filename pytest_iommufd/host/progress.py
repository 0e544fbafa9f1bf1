# SPDX-License-Identifier: GPL-2.0-only
"""What is told of work that takes long."""

from __future__ import annotations

from typing import Protocol

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
