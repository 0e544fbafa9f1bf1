# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is this machine: the agent is an ordinary child process."""

from __future__ import annotations

import os
import tempfile
from typing import IO, TYPE_CHECKING

from pytest_iommufd.host.child import Child
from pytest_iommufd.machine.autopsy import CONSOLE_TAIL_LINES
from pytest_iommufd.machine.machine import Machine
from pytest_iommufd.machine.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path


class LocalMachine(Machine):
    """This machine's own kernel. A panic of it takes the tests along.

    Args:
        agent: its program.
        pci_devices: addresses of devices that are bound to vfio-pci and given to the tests.
        boot_seconds, call_seconds: see Machine.
    """

    def __init__(
        self,
        agent: Path,
        *,
        pci_devices: tuple[str, ...] = (),
        boot_seconds: float = 10.0,
        call_seconds: float = 10.0,
    ) -> None:
        super().__init__(boot_seconds=boot_seconds, call_seconds=call_seconds)
        self.pci_devices = pci_devices
        self._agent = agent
        self._child: Child | None = None
        self._pipes: tuple[int, int] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this

    @property
    def acceleration(self) -> str:
        """There is none to choose."""
        return "none"

    @property
    def pid(self) -> int:
        """The agent's process id, 0 when it does not run."""
        return self._child.pid if self._child else 0

    @property
    def _launched(self) -> bool:
        return self._child is not None

    def _launch(self) -> None:
        # pipes, not a socket: a kernel under test may have been built without networking
        request, to_agent = os.pipe()
        from_agent, answer = os.pipe()
        try:
            self._child = Child(
                [str(self._agent), "--stdio"], output=self._output, stdin=request, stdout=answer
            )
        finally:
            os.close(request)
            os.close(answer)
        self._pipes = (from_agent, to_agent)

    def _connect(self, deadline: float) -> Stream:  # noqa: ARG002 - it is connected
        assert self._pipes  # noqa: S101 - for the type checker: _launch() has made them
        assert self._child  # noqa: S101
        stream = Stream(*self._pipes, self._child.pidfd)
        self._pipes = None  # the stream's now
        return stream

    def exit_status(self) -> str:
        """Say how it ended, "" when it runs."""
        if not self._child:
            return ""
        self._child.wait(0.2)
        status = self._child.status()
        return f"(the agent) {status}" if status else ""

    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of the kernel log seen so far, and what the agent printed."""
        self._output.seek(0)
        printed = self._output.read().decode(errors="replace").splitlines()
        return "\n".join([*self.log, *printed][-lines:])

    def _destroy(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None
        for descriptor in self._pipes or ():
            os.close(descriptor)
        self._pipes = None
