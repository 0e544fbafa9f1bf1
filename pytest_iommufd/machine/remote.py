# SPDX-License-Identifier: GPL-2.0-only
"""A machine elsewhere: the agent's stream is the standard input and output of ssh."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.child import Child
from pytest_iommufd.host.run import run
from pytest_iommufd.machine import autopsy, ssh
from pytest_iommufd.machine.autopsy import CONSOLE_TAIL_LINES
from pytest_iommufd.machine.piped import PipedMachine
from pytest_iommufd.machine.stream import Stream, StreamEndedError
from pytest_iommufd.machine.verdict import (
    AgentFailed,
    CallHung,
    GuestExited,
    KernelPanicked,
    LinkCut,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.agent.protocol import Frame
    from pytest_iommufd.machine.session import Session
    from pytest_iommufd.machine.verdict import Verdict

REBOOT_SECONDS = 300.0
# How long after the stream has ended the console is given for a panic's last lines.
_LAST_WORDS_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 1.0
_HOST_VARIABLE = "IOMMUFD_HOST"


@dataclass(frozen=True)
class Care:
    """What can be done about a machine elsewhere.

    Commands are run by sh here, with the machine in $IOMMUFD_HOST.

    Attributes:
        reboot_seconds: how long it may take until it answers again.
        power_cycle: a command that switches it off and on, or "".
        console: a command that prints what its console gets, until it is killed, or "".
    """

    reboot_seconds: float = REBOOT_SECONDS
    power_cycle: str = ""
    console: str = ""


class RemoteMachine(PipedMachine):
    """The kernel that a machine elsewhere runs.

    Nothing stays there: the agent's file is removed before it starts, and it ends with its stream.
    When the machine is lost, it is waited for until it answers again. From the first start until
    close() it is this object's alone: what two runs did to one kernel would be no one's verdict.

    Args:
        host: `[USER@]HOST`, as ssh takes it.
        agent: the program, compiled for that machine.
        care: what can be done about it.
        locks: the folder of the locks by which one object here has the machine.
        pci_devices: addresses of its devices that are bound to vfio-pci and given to the tests.
        boot_seconds, call_seconds: see Machine.
    """

    _child_name = "ssh"

    def __init__(
        self,
        host: str,
        agent: Path,
        care: Care,
        *,
        locks: Path,
        pci_devices: tuple[str, ...] = (),
        boot_seconds: float,
        call_seconds: float,
    ) -> None:
        from filelock import FileLock  # noqa: PLC0415 - costly, and mostly not needed

        super().__init__(
            pci_devices=pci_devices, boot_seconds=boot_seconds, call_seconds=call_seconds
        )
        self.host = host
        self.iommu = f"the IOMMU of {host}"
        self._agent = agent
        self._care = care
        self._lock = FileLock(locks / f"machine-{host.rpartition('@')[2]}.lock", timeout=0)
        self._boot_id = ""
        self._trouble = ""
        self._serial: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this
        self._watcher: Child | None = None

    def _command(self) -> list[str]:
        return ssh.start_command(self.host, self._agent.stat().st_size, self.call_seconds)

    def _claim(self) -> None:
        from filelock import Timeout  # noqa: PLC0415 - as above

        if self._lock.is_locked:
            return
        try:
            self._lock.acquire()
        except Timeout:
            problem = Problem(
                f"{self.host} is in use: another run on this machine tests its kernel",
                expected="one run at a time, and in it one --kernel for each machine",
                mend="wait for the end of the other run",
            )
            raise self._boot_failed(str(problem)) from None

    def close(self) -> None:
        """End it, and let others have the machine."""
        super().close()
        self._lock.release()

    def _launch(self) -> None:
        self._claim()
        super()._launch()
        if self._care.console:
            self._serial.seek(0)
            self._serial.truncate()
            self._watcher = Child(self._by_sh(self._care.console), output=self._serial)

    def _destroy(self) -> None:
        super()._destroy()
        if self._watcher:
            self._watcher.kill()
            self._watcher = None

    def _connect(self, deadline: float) -> Stream:
        assert self._pipes  # noqa: S101 - for the type checker: _launch() has made them
        assert self._child  # noqa: S101
        opening = ssh.Opening(self.host, *self._pipes, deadline)
        try:
            self._boot_id = opening.start(self._agent.read_bytes())
        except StreamEndedError:
            self._child.wait(_LAST_WORDS_SECONDS)
            if self.boots and ssh.is_cut(self._child.code):
                raise  # what has just been booted may go once more, and is waited for again
            raise ssh.problem(
                self.host, self._child.code, [*opening.banner, *self._printed()]
            ) from None
        stream = Stream(*self._pipes, self._child.pidfd)
        self._pipes = None  # the stream's now
        return stream

    def _boot(self) -> Session:
        if self.boots and not self._launched and not self._back():
            raise self._boot_failed(self._gone())
        return super()._boot()

    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of its console, or of its kernel's log if none can be watched."""
        self._serial.seek(0)
        serial = self._serial.read().decode(errors="replace").replace("\r", "").splitlines()
        if self._watcher and (ended := self._watcher.status()):
            serial.append(f"(the command for the console {ended})")
        return "\n".join([*(serial or self.log), *self._printed()][-lines:])

    def lost(self, what: str, during: object) -> Verdict:
        """Say why the stream ended: whether the machine went with it, only the machine can say."""
        if self._watcher:
            self._watcher.wait(_LAST_WORDS_SECONDS)
        # ssh may also have been killed here
        link = bool(self.exit_status()) and self._child and ssh.is_cut(self._child.code)
        before = self._boot_id
        found = autopsy.lost(self, what, during)
        if isinstance(found, AgentFailed | KernelPanicked):
            return found
        place = self._back()
        if place is None:
            what = self._boot_failed(self._gone()).what
        elif place.boot != before:
            what = f"{self.host} was booted again: its kernel panicked, or its power was lost"
        elif link:
            what = f"the link to {self.host} was cut, and its kernel runs on"
            return LinkCut(what, console=found.console, during=during)
        else:
            return found
        return GuestExited(what, console=found.console, during=during)

    def hung(self, session: Session, request: Frame, seconds: float, during: object) -> Verdict:
        """Find out why a request is not answered; power-cycle a machine that goes on hanging."""
        before = self._boot_id
        found = super().hung(session, request, seconds, during)
        if self._care.power_cycle and isinstance(found, CallHung) and not session.open:
            self._switch_off_and_on()
            self._back(but=before)
        return found

    def _back(self, but: str = "") -> ssh.Place | None:
        """Wait until it answers, having it switched off and on if it does not; None: it did not.

        Args:
            but: the id of a boot that is about to end.
        """
        seconds = self._care.reboot_seconds
        end = time.monotonic() + seconds
        switched = bool(but)
        while True:
            try:
                place = ssh.look(self.host, min(seconds, self.boot_seconds))
            except Problem as problem:
                self._trouble = problem.what
                if self._care.power_cycle and not switched:
                    self._switch_off_and_on()
                    switched = True
            else:
                if place.boot != but:
                    return place
            if time.monotonic() > end:
                return None
            time.sleep(_LOOK_AGAIN_SECONDS)

    def _gone(self) -> str:
        return (
            f"{self.host} did not come back within {self._care.reboot_seconds:g} s "
            f"(--iommufd-reboot-deadline, --iommufd-power-cycle): {self._trouble}"
        )

    def _switch_off_and_on(self) -> None:
        status, lines = run(self._by_sh(self._care.power_cycle))
        said = f", saying {lines[-1]!r}" if lines else ""
        how = f"; the command exited with status {status}{said}" if status else ""
        self.remarks.append(f"{self.host} was power-cycled{how}")

    def _by_sh(self, command: str) -> list[str]:
        return ["env", f"{_HOST_VARIABLE}={self.host}", "sh", "-c", command]
