# SPDX-License-Identifier: GPL-2.0-only
"""A machine whose agent, or the way to it, is a child with the stream on its input and output."""

from __future__ import annotations

import abc
import os
import tempfile
from typing import IO, TYPE_CHECKING

from pytest_iommufd.host.child import Child
from pytest_iommufd.machine.autopsy import CONSOLE_TAIL_LINES
from pytest_iommufd.machine.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAST_MOMENT = 0.2


class PipedMachine(Machine):
    """A kernel that runs already; what a child prints on standard error is kept.

    Args:
        pci_devices: addresses of devices that are bound to vfio-pci and given to the tests.
        boot_seconds, call_seconds: see Machine.
    """

    def __init__(
        self, *, pci_devices: tuple[str, ...], boot_seconds: float, call_seconds: float
    ) -> None:
        super().__init__(boot_seconds=boot_seconds, call_seconds=call_seconds)
        self.pci_devices = pci_devices
        self._child: Child | None = None
        self._pipes: tuple[int, int] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this

    @abc.abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the child's program and its arguments."""

    @property
    @abc.abstractmethod
    def _child_name(self) -> str:
        """What the child is, for people."""

    @property
    def acceleration(self) -> str:
        """There is none to choose."""
        return "none"

    @property
    def pid(self) -> int:
        """The child's process id, 0 when it does not run."""
        return self._child.pid if self._child else 0

    @property
    def _launched(self) -> bool:
        return self._child is not None

    def _launch(self) -> None:
        # what an earlier child printed is not this one's
        self._output.seek(0)
        self._output.truncate()
        # pipes, not a socket: a kernel under test may have been built without networking
        request, to_agent = os.pipe()
        from_agent, answer = os.pipe()
        try:
            self._child = Child(self._command(), output=self._output, stdin=request, stdout=answer)
        finally:
            os.close(request)
            os.close(answer)
        self._pipes = (from_agent, to_agent)

    def exit_status(self) -> str:
        """Say how it ended, "" when it runs."""
        if not self._child:
            return ""
        self._child.wait(_LAST_MOMENT)
        status = self._child.status()
        return f"({self._child_name}) {status}" if status else ""

    def console(self, lines: int = CONSOLE_TAIL_LINES) -> str:
        """Return the last lines of the kernel log seen so far, and what the child printed."""
        return "\n".join([*self.log, *self._printed()][-lines:])

    def _printed(self) -> list[str]:
        self._output.seek(0)
        return self._output.read().decode(errors="replace").splitlines()

    def _destroy(self) -> None:
        if self._child:
            self._child.kill()
            self._child = None
        for descriptor in self._pipes or ():
            os.close(descriptor)
        self._pipes = None
