# SPDX-License-Identifier: GPL-2.0-only
"""Child processes that never outlive this one."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import IO, TYPE_CHECKING

from pytest_iommufd.host import resources
from pytest_iommufd.host.run import tied

if TYPE_CHECKING:
    from collections.abc import Sequence


class Child:
    """A running child, killed when this process ends however it ends.

    That is when the *thread* that started it ends, so children are started from the main thread.

    Args:
        command: what to run.
        output: a file for what it prints.
        stdin: a file descriptor, or none.
        stdout: a file descriptor other than the output, or none.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes],
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        self._popen = subprocess.Popen(
            tied(command, signal.SIGKILL),
            stdin=stdin,
            stdout=output if stdout is None else stdout,
            stderr=output,
            # Ctrl-C is for pytest, which ends the machine in its own order
            start_new_session=True,
        )
        self.pidfd = os.pidfd_open(self._popen.pid)
        self._oom_kills = resources.oom_kills()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def wait(self, seconds: float) -> bool:
        """Wait for its end; tells whether it has ended."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def code(self) -> int:
        """Its exit status, negative for a signal; 0 while it runs, too."""
        return self._popen.poll() or 0

    def status(self) -> str:
        """Say how it ended, "" while it runs."""
        code = self._popen.poll()
        if code is None:
            return ""
        if code == -signal.SIGKILL and resources.oom_kills() > self._oom_kills:
            return "was killed by the kernel for want of memory"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def kill(self) -> None:
        """Kill it with what it started, and reap it; may be called again."""
        if self.pidfd >= 0:
            if self._popen.poll() is None:
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            os.close(self.pidfd)
            self.pidfd = -1
