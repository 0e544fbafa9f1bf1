# SPDX-License-Identifier: GPL-2.0-only
"""A process that is stopped stands still, one that waits for something else does not."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.machine.pulse import Pulse

if TYPE_CHECKING:
    import pytest


def test_only_the_time_that_a_process_was_stopped_counts() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        pulse = Pulse(process.pid)
        began = time.monotonic()
        time.sleep(0.7)
        assert pulse.still(began)[0] < 0.3
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        time.sleep(1.2)
        still, why = pulse.still(began)
        assert 1.1 < still < time.monotonic() - began
        assert why == "its process was stopped"
        assert pulse.still(time.monotonic())[0] < 0.1
        process.send_signal(signal.SIGCONT)
        assert pulse.still(stopped)[0] > 1.1
        pulse.close()
        process.kill()


def test_a_process_that_ends_while_it_is_looked_at_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(folder: Path, pattern: str) -> None:
        raise FileNotFoundError(folder, pattern)

    with subprocess.Popen(["sleep", "60"]) as process:
        pulse = Pulse(process.pid)
        try:
            monkeypatch.setattr(Path, "glob", gone)
            assert pulse.still(time.monotonic())[0] == 0
        finally:
            pulse.close()
            process.kill()
