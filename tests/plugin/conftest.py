# SPDX-License-Identifier: GPL-2.0-only
"""Runs of pytest within tests, with the installed plugin and the kernels of this run's cache."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel.cache.store import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUN_SECONDS = 300
QUIET = ("-p", "no:cacheprovider", "-p", "no:benchmark")

# Tells a test outside which QEMU runs inside: one line for each that was seen.
NOTES_QEMUS = """
import pytest
from pathlib import Path
from pytest_iommufd.lab import LAB

@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session):
    note(session.config)

@pytest.fixture(autouse=True)
def noted(request):
    yield
    note(request.config)

def note(config):
    for bench in config.stash[LAB].benches:
        machine = bench.machine
        with Path({file!r}).open("a") as file:
            if machine.pid:
                print(machine.pid, machine.folder, file=file, flush=True)
"""


@pytest.fixture
def kernel_option(pytestconfig: pytest.Config) -> list[str]:
    """The kernel that the runs within are given: the first one of this run."""
    return [f"--kernel={(pytestconfig.option.iommufd_kernel or ['6.12'])[0]}"]


@pytest.fixture
def run(
    pytester: pytest.Pytester,
    cache_root: Path,
    kernel_option: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., pytest.RunResult]:
    """Runs pytest on the text of a test file: `run(text, *arguments)`."""
    monkeypatch.setenv(VARIABLE, str(cache_root))

    def make(text: str, *arguments: str, kernel: bool = True) -> pytest.RunResult:
        pytester.makepyfile(test_it=text)
        given = kernel_option if kernel else []
        return pytester.runpytest_subprocess(*QUIET, *given, *arguments, timeout=RUN_SECONDS)

    return make


class Started:
    """A run of pytest that goes on while the test looks.

    Attributes:
        popen: it.
        output: a file with what it prints.
    """

    def __init__(
        self, folder: Path, arguments: list[str], notes: Path, environment: dict[str, str]
    ) -> None:
        self.output = folder / "output"
        self._notes = notes
        with self.output.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "pytest", *QUIET, *arguments],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def qemu(self, seconds: float = 60) -> tuple[int, Path]:
        """Wait until it has started QEMU; returns its process id and its private folder."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = self._notes.read_text() if self._notes.exists() else ""
            if "\n" in text:
                pid, _, folder = text.splitlines()[-1].partition(" ")
                return int(pid), Path(folder)
            assert self.popen.poll() is None, self.output.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no QEMU was started: {self.output.read_text()}")

    def wait_for(self, path: Path, seconds: float = 60) -> None:
        """Wait until it has made a file."""
        end = time.monotonic() + seconds
        while not path.exists():
            assert self.popen.poll() is None, self.output.read_text()
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.02)

    def end(self, how: signal.Signals) -> int:
        """Send it a signal, and wait until it has ended; returns its status."""
        if how is signal.SIGINT:
            os.killpg(self.popen.pid, how)  # as a terminal does: its workers get it, too
        else:
            self.popen.send_signal(how)
        return self.popen.wait(30)


@pytest.fixture
def start(
    tmp_path: Path, cache_root: Path, kernel_option: list[str]
) -> Iterator[Callable[..., Started]]:
    """Starts pytest on the text of a test file: `start(text, *arguments)`."""
    started: list[Started] = []

    def make(text: str, *arguments: str) -> Started:
        notes = tmp_path / "qemus"
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "conftest.py").write_text(NOTES_QEMUS.format(file=str(notes)))
        made = Started(tmp_path, [*kernel_option, *arguments], notes, {VARIABLE: str(cache_root)})
        started.append(made)
        return made

    yield make
    for made in started:
        if made.popen.poll() is None:
            made.popen.kill()
            made.popen.wait()


def is_gone(pid: int, seconds: float = 3.0) -> bool:
    """Tell whether there is no such process, or soon is none but one that is dead."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def gone() -> Callable[..., bool]:
    """The function is_gone."""
    return is_gone
