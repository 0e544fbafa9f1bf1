# SPDX-License-Identifier: GPL-2.0-only
"""How a machine, a process or a call can end other than by an answer."""

from __future__ import annotations

import os
import signal


class Verdict(Exception):  # noqa: N818 - each is what happened to the kernel, not our error
    """What happened, and the console or kernel log that shows it.

    Args:
        what: one sentence.
        console: the last lines of the console or of the kernel log.
        during: the call or calls that were under way.
    """

    def __init__(self, what: str, *, console: str = "", during: object = "") -> None:
        super().__init__(what)
        self.what = what
        self.console = console
        self.during = str(during)

    def __str__(self) -> str:
        parts = [self.what]
        if self.during:
            parts.append(f"during: {self.during}")
        if self.console:
            parts.append("--- console ---\n" + self.console.rstrip("\n"))
        return "\n".join(parts)


class MachineLost(Verdict):
    """The machine can not be used any more; the next test boots it anew."""


class BootFailed(MachineLost):
    """The machine did not come to serve, twice. It is not tried again in this run."""


class StoodStill(MachineLost):
    """The machine could not run for so long that nothing is known of the kernel."""


class LinkCut(StoodStill):
    """The link to a machine elsewhere ended, and the machine did not: likewise."""


class KernelPanicked(MachineLost):
    """The kernel panicked."""


class GuestExited(MachineLost):
    """QEMU, or the agent on this machine, ended without a panic."""


class AgentFailed(MachineLost):
    """The agent could not go on: the harness is at fault, and the kernel is not judged."""


class StreamLost(MachineLost):
    """The agent's stream ended or made no sense, though the machine runs."""


class CallHung(Verdict):
    """A call did not return within its deadline; the blocked tasks are in the console text."""


class ProcessDied(Verdict):
    """The process that made the calls was killed, or left by itself.

    Attributes:
        status: the wait status, None when nobody knows it.
    """

    def __init__(self, what: str, *, status: int | None, during: object = "") -> None:
        super().__init__(what, during=during)
        self.status = status


class KernelSplat(Verdict):
    """The kernel log has a warning, an oops or a report that nobody expected."""


def describe_status(status: int | None) -> str:
    """Say a wait status in words."""
    if status is None:
        return "has gone"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"
