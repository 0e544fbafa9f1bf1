# SPDX-License-Identifier: GPL-2.0-only
"""A machine that is this machine: the agent is an ordinary child process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.machine.piped import PipedMachine
from pytest_iommufd.machine.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path


class LocalMachine(PipedMachine):
    """This machine's own kernel. A panic of it takes the tests along.

    Args:
        agent: its program.
        pci_devices: addresses of devices that are bound to vfio-pci and given to the tests.
        boot_seconds, call_seconds: see Machine.
    """

    _child_name = "the agent"

    def __init__(
        self,
        agent: Path,
        *,
        pci_devices: tuple[str, ...] = (),
        boot_seconds: float = 10.0,
        call_seconds: float = 10.0,
    ) -> None:
        super().__init__(
            pci_devices=pci_devices, boot_seconds=boot_seconds, call_seconds=call_seconds
        )
        self._agent = agent

    def _command(self) -> list[str]:
        return [str(self._agent), "--stdio"]

    def _connect(self, deadline: float) -> Stream:  # noqa: ARG002 - it is connected
        assert self._pipes  # noqa: S101 - for the type checker: _launch() has made them
        assert self._child  # noqa: S101
        stream = Stream(*self._pipes, self._child.pidfd)
        self._pipes = None  # the stream's now
        return stream
