# SPDX-License-Identifier: GPL-2.0-only
"""What became of a machine, or of a call in it, that does not answer."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Protocol

from pytest_iommufd.agent.protocol import Frame, FrameType
from pytest_iommufd.machine.process import Process
from pytest_iommufd.machine.splat import PANIC
from pytest_iommufd.machine.verdict import (
    AgentFailed,
    CallHung,
    GuestExited,
    KernelPanicked,
    MachineLost,
    StoodStill,
    StreamLost,
    Verdict,
)

if TYPE_CHECKING:
    from pytest_iommufd.machine.session import Session, Worker

CONSOLE_TAIL_LINES = 60
# A warning, an oops and a panic by one call take some 120.
_LAST_WORDS_LINES = 400
# How long each look at a machine with a hung call may take.
_EXAMINE_SECONDS = 3.0
# Of its deadline, what a call must have had to be told as one that hangs.
_FAIR_SHARE = 0.25
_BLOCKED_TASKS = b"w"  # to /proc/sysrq-trigger
_AGENT_FAILED = re.compile(r"^pytest-iommufd agent failed: (?P<why>.*)", re.MULTILINE)


class Patient(Protocol):
    """A machine, as it is seen from outside; see Machine for what these are."""

    log: list[str]

    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of its console."""

    def exit_status(self) -> str:
        """Say how it ended, "" when it runs."""

    def backtrace(self) -> None:
        """Have its kernel say on the console where it is."""

    def still(self, since: float) -> tuple[float, str]:
        """Return how many seconds it could not run, and why; see Pulse."""

    def stop(self) -> None:
        """End it."""


def lost(patient: Patient, what: str, during: object) -> MachineLost:
    """Say why the stream ended, and stop the machine."""
    # the console is written by another process: give its last words a moment
    time.sleep(0.05)
    console = _last_words(patient)
    status = patient.exit_status()
    failure = agent_failure(console)
    panic = panic_in(console)
    patient.stop()
    if failure:
        return AgentFailed(failure, console=console, during=during)
    if panic:
        return KernelPanicked(f"the kernel panicked: {panic}", console=console, during=during)
    if status:
        return GuestExited(f"the machine {status}", console=console, during=during)
    return StreamLost(what, console=console, during=during)


def hung(
    patient: Patient, session: Session, request: Frame, seconds: float, during: object
) -> CallHung | StoodStill:
    """Find out what hangs, get rid of it, and say so."""
    still, why = patient.still(time.monotonic() - seconds)
    if seconds - still < seconds * _FAIR_SHARE:
        return stood_still(patient, f"for {still:.1f} of {seconds:g} s: {why}", during)
    what = f"no answer within {seconds:g} s"
    if request.type in (FrameType.RUN, FrameType.PARALLEL, FrameType.FORK):
        what = f"a call did not return within {seconds:g} s"
    process = session.workers.get(request.worker)
    examines = session.patience > _EXAMINE_SECONDS  # else it is the examination that hangs
    blocked = _blocked_tasks(patient, session, process) if examines else ""
    if process and examines:
        with contextlib.suppress(Verdict):
            process.end()
    if process and session.open:
        return CallHung(f"{what}; its process was killed", console=blocked, during=during)
    if session.open:
        patient.backtrace()
    blocked = "\n".join(filter(None, (blocked, patient.console())))
    patient.stop()
    return CallHung(
        f"{what}; it cannot be ended, so the machine was stopped", console=blocked, during=during
    )


def agent_failure(console: str) -> str:
    """Say why the agent gave up, "" when it did not; a panic that follows is its doing."""
    found = _AGENT_FAILED.search(console)
    return f"the agent failed, not the kernel: {found['why'].strip()}" if found else ""


def stood_still(patient: Patient, what: str, during: object = "") -> StoodStill:
    """Say how long a machine stood still, and why, and stop it."""
    console = patient.console()
    patient.stop()
    return StoodStill(f"the machine stood still {what}", console=console, during=during)


def panic_in(console: str) -> str:
    """Return why the kernel panicked, "" when it did not."""
    found = PANIC.search(console)
    return found["why"].strip() if found else ""


def _last_words(patient: Patient) -> str:
    """Return what the console got after the last line of the log, at least some lines."""
    lines = patient.console(_LAST_WORDS_LINES).splitlines()
    known = patient.log[-1] if patient.log else ""
    places = [at for at, line in enumerate(lines) if known and line.endswith(known)]
    new = len(lines) - 1 - places[-1] if places else 0
    return "\n".join(lines[-max(new, CONSOLE_TAIL_LINES) :])


def _blocked_tasks(patient: Patient, session: Session, process: Worker | None) -> str:
    """Have the kernel print the tasks that wait in it; return that and the process's stack."""
    before = len(patient.log)
    stack = ""
    session.patience = _EXAMINE_SECONDS
    with contextlib.suppress(Verdict):
        examiner = Process.start(session)
        if process:
            stack = _where(examiner, process.pid)
        with contextlib.suppress(OSError):
            examiner.write_file("/proc/sysrq-trigger", _BLOCKED_TASKS)
        examiner.end()
    session.patience = float("inf")
    return "\n".join([*patient.log[before:], stack])


def _where(examiner: Process, pid: int) -> str:
    """Tell where in the kernel a process is: its stack, or but the function it sleeps in."""
    for name in ("stack", "wchan"):
        with contextlib.suppress(OSError):
            text = examiner.read_file(f"/proc/{pid}/{name}").decode(errors="replace")
            return f"{name} of process {pid}:\n{text}"
    return ""
