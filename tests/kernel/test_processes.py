# SPDX-License-Identifier: GPL-2.0-only
"""Runs that are killed, interrupted, or two at once: real processes, fake tools."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kernel_helpers import Recorder, add_sources, alive, entries, make_diff, make_series

from pytest_iommufd.kernel import ready, resolve

_DRIVER = """
import sys
import pytest_iommufd.uapi.describe as describing
describing.describe = lambda tree, destination, build: destination.write_text("{}")
from pytest_iommufd.commands.main import main
sys.exit(main(["kernel", "build", sys.argv[1]]))
"""
_DEADLINE = 20.0

Start = Callable[[Path, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(fakes: Path, cache: Path) -> Iterator[Start]:
    """Run `pytest-iommufd kernel build TREE` with a make that behaves in some way."""
    del fakes, cache
    started: list[subprocess.Popen[str]] = []

    def run(tree: Path, mode: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(tree)],
            env=os.environ | {"FAKE_MODE": mode},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def make_group(tmp_path: Path) -> int:
    """Wait until make sleeps; its process group."""
    path = tmp_path / "calls.pid"
    wait_for(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def group(number: int) -> list[int]:
    """Live processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == number and alive(int(stat.parent.name)):
            found.append(int(stat.parent.name))
    return found


def test_interrupted(start: Start, tree: Path, cache: Path, tmp_path: Path) -> None:
    process = start(tree, "sleep")
    number = make_group(tmp_path)
    assert len(group(number)) == 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert group(number) == [], "make and its children are gone"
    assert entries(cache) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_while_patching(
    start: Start, tree: Path, cache: Path, fakes: Path, tmp_path: Path, number: signal.Signals
) -> None:
    add_sources(tree)
    resolve(str(tree))
    (fakes / "patch").unlink(missing_ok=True)
    shutil.copy(fakes / "make", fakes / "patch")
    spec = f"{tree}+{make_series(tmp_path / 'v2', make_diff())}"
    process = start(Path(spec), "")
    make_group(tmp_path)
    process.send_signal(number)
    process.communicate(timeout=_DEADLINE)
    left = [name for name in entries(cache) if "+v2" in name]
    assert [name.rpartition(".")[2] for name in left] == ["partial"] * (number != signal.SIGINT)
    assert ready(spec) is None
    (tree / "edit.c").write_text("int x;")
    resolve(str(tree))
    assert not any("+v2" in name for name in entries(cache)), "the next build removed it"


def test_killed(start: Start, tree: Path, cache: Path, tmp_path: Path, progress: Recorder) -> None:
    process = start(tree, "sleep")
    number = make_group(tmp_path)
    process.kill()
    process.wait(_DEADLINE)
    wait_for(lambda: not alive(number))
    assert [name.rpartition(".")[2] for name in entries(cache)] == ["partial"]
    kernel = resolve(str(tree), progress=progress)
    assert kernel.image
    assert entries(cache) == [kernel.image.parent.name]
    assert not any("waiting" in step for step in progress.steps)


def test_what_a_killed_run_left_of_another_kernel_is_removed(
    start: Start, tree: Path, cache: Path, tmp_path: Path
) -> None:
    process = start(tree, "sleep")
    make_group(tmp_path)
    process.kill()
    process.wait(_DEADLINE)
    (tree / "edit.c").write_text("int x;")
    resolve(str(tree))
    assert len(entries(cache)) == 1


def test_two_at_once(
    start: Start, tree: Path, cache: Path, calls: Callable[[str], list[str]]
) -> None:
    both = [start(tree, "slow"), start(tree, "slow")]
    output = [process.communicate(timeout=_DEADLINE) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert len(calls("make")) == 2, "one configured and built, the other did neither"
    assert sum("another run is making" in errors for _, errors in output) == 1
    assert len(entries(cache)) == 1


def test_one_that_builds_keeps_its_files_while_another_kernel_is_built(
    start: Start, tree: Path, cache: Path, tmp_path: Path
) -> None:
    process = start(tree, "sleep")
    make_group(tmp_path)
    (tree / "edit.c").write_text("int x;")
    resolve(str(tree))
    assert len(entries(cache)) == 2
    assert process.poll() is None
