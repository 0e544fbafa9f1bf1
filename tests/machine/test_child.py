# SPDX-License-Identifier: GPL-2.0-only
"""Children end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.host import resources
from pytest_iommufd.host.child import Child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STARTS_A_CHILD = """
import sys, tempfile
from pytest_iommufd.host.child import Child
child = Child(["sleep", "600"], output=tempfile.TemporaryFile())
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_child_says_how_it_ended(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        child = Child(["sh", "-c", "echo out; echo err >&2; exit 3"], output=output)
    assert child.wait(10)
    assert child.status() == "exited with status 3"
    assert (tmp_path / "output").read_text().split() == ["out", "err"]
    child.kill()
    child.kill()


def test_a_child_that_is_killed_says_by_what() -> None:
    with tempfile.TemporaryFile() as output:
        child = Child(["sleep", "600"], output=output)
    assert not child.wait(0)
    assert child.status() == ""
    child.kill()
    assert child.status() == "was killed by SIGKILL"


def test_a_child_that_is_killed_for_want_of_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_PROC", tmp_path)
    (tmp_path / "vmstat").write_text("pgfault 9\noom_kill 3\n")
    with tempfile.TemporaryFile() as output:
        child = Child(["sleep", "600"], output=output)
    (tmp_path / "vmstat").write_text("pgfault 10\noom_kill 4\n")
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(10)
    assert child.status() == "was killed by the kernel for want of memory"
    child.kill()


def test_a_child_needs_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setpriv = tmp_path / "setpriv"
    setpriv.write_text("#!/bin/sh\necho 'setpriv: unrecognized option: pdeathsig' >&2; exit 1\n")
    setpriv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with tempfile.TemporaryFile() as output:
        child = Child(["/bin/sh", "-c", "kill -PIPE $$"], output=output)
    assert child.wait(10)
    assert child.status() == "was killed by SIGPIPE"
    child.kill()


def test_a_child_s_own_children_are_killed_with_it(
    tmp_path: Path, gone: Callable[..., bool]
) -> None:
    note = tmp_path / "pid"
    with tempfile.TemporaryFile() as output:
        child = Child(["sh", "-c", f"sleep 600 & echo $! > {note}; wait"], output=output)
    while not note.exists() or not note.read_text().strip():
        assert not child.wait(0.01)
    child.kill()
    assert gone(int(note.read_text()))


def test_a_command_that_is_not_there_is_an_end_of_it(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as output:
        child = Child(["no-such-command"], output=output)
    assert child.wait(10)
    assert child.status() == "exited with status 127"
    assert "no-such-command" in (tmp_path / "output").read_text()
    child.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_child_does_not_outlive_its_parent(
    how: signal.Signals, gone: Callable[..., bool]
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS_A_CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert not gone(pid, 0.1)
    parent.send_signal(how)
    parent.wait(10)
    assert gone(pid)
    parent.communicate()
