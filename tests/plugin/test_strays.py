# SPDX-License-Identifier: GPL-2.0-only
"""However pytest ends, QEMU ends with it."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAITS = """
from pathlib import Path

def test_waits(process):
    Path("waits").touch()
    process.syscall("ppoll", 0, 0, 0, 0, seconds=600)
"""
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("how", SIGNALS, ids=lambda how: how.name)
@pytest.mark.parametrize("when", ["boot", "test"])
def test_no_qemu_outlives_pytest(
    start: Callable[..., object],
    gone: Callable[..., bool],
    tmp_path: Path,
    how: signal.Signals,
    when: str,
) -> None:
    started = start(WAITS)
    pid, folder = started.qemu()
    if when == "test":
        started.wait_for(tmp_path / "waits")
    assert not gone(pid, 0)
    status = started.end(how)
    assert gone(pid), started.output.read_text()
    if how is signal.SIGINT:
        assert status == pytest.ExitCode.INTERRUPTED
        assert not folder.exists()
        assert "KeyboardInterrupt" in started.output.read_text()
    else:
        assert status == -how
        shutil.rmtree(folder)  # which nobody was left to remove


@pytest.mark.parametrize("how", SIGNALS[::2], ids=lambda how: how.name)
def test_no_qemu_long_outlives_pytest_with_workers(
    start: Callable[..., object], gone: Callable[..., bool], tmp_path: Path, how: signal.Signals
) -> None:
    started = start(WAITS, "-n", "1")
    pid, folder = started.qemu()
    started.wait_for(tmp_path / "waits")
    started.end(how)
    # a worker whose controller was killed is given some seconds to finish by execnet
    assert gone(pid, 20), started.output.read_text()
    if how is signal.SIGINT:
        assert not folder.exists()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_run_that_ends_well_leaves_nothing(
    start: Callable[..., object], gone: Callable[..., bool]
) -> None:
    started = start("def test_it(process):\n    pass\n")
    assert started.popen.wait(60) == 0
    pid, folder = started.qemu()
    assert gone(pid)
    assert not folder.exists()


def test_a_run_whose_qemu_is_stopped_ends_all_the_same(
    start: Callable[..., object], gone: Callable[..., bool], tmp_path: Path
) -> None:
    started = start(WAITS)
    pid, _ = started.qemu()
    started.wait_for(tmp_path / "waits")
    os.kill(pid, signal.SIGSTOP)
    started.end(signal.SIGINT)
    assert gone(pid)
