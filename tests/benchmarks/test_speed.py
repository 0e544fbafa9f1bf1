# SPDX-License-Identifier: GPL-2.0-only
"""How long what everybody waits for takes: a call, a boot, the first test, a suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.kernel.cache.store import VARIABLE
from pytest_iommufd.machine.accel import choose
from pytest_iommufd.machine.vm import VirtualMachine

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.machine import Machine, Process

SUITE = "pytest_iommufd.suites.hwpt_alloc"
BOOTS = 5

# Writes when the first test began, its fixtures made, and when the last one ended.
CLOCK = """
import json, os, time

class Clock:
    def __init__(self):
        self.tests, self.first, self.last = 0, None, None

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and self.first is None:
            self.first = report.start
        if report.when == "teardown":
            self.tests, self.last = self.tests + 1, report.stop

    def pytest_sessionfinish(self):
        with open(os.environ["CLOCK_FILE"], "w") as file:
            json.dump({"tests": self.tests, "first": self.first, "last": self.last}, file)

def pytest_configure(config):
    config.pluginmanager.register(Clock())
"""


def test_round_trip(benchmark: BenchmarkFixture, process: Process) -> None:
    assert benchmark(process.syscall, "getpid").ret == process.pid


def test_round_trip_of_a_hundred_calls(benchmark: BenchmarkFixture, process: Process) -> None:
    program = Program()
    for _ in range(100):
        program.syscall("getpid")
    assert len(benchmark(process.run, program)) == 100


def test_ioctl(benchmark: BenchmarkFixture, iommufd: Context) -> None:
    def make_and_destroy() -> None:
        iommufd.ioas_alloc().destroy()

    benchmark(make_and_destroy)


def test_process(benchmark: BenchmarkFixture, machine: Machine) -> None:
    benchmark(lambda: machine.process().end())


def test_boot(
    benchmark: BenchmarkFixture, kernel: Kernel, agent_program: Path, cache_root: Path
) -> None:
    """From nothing to an agent that serves."""
    assert kernel.image
    acceleration = choose(kernel.image, cache_root)
    machine = VirtualMachine(kernel.image, kernel.modules, agent_program, acceleration)
    try:
        benchmark.pedantic(machine.wait, setup=machine.stop, rounds=BOOTS)
    finally:
        machine.stop()


def test_suite(
    benchmark: BenchmarkFixture,
    kernel: Kernel,
    tmp_path: Path,
    cache_root: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the shell's return key to the first test, and then tests per second."""
    (tmp_path / "suite_clock.py").write_text(CLOCK)
    file = tmp_path / "clock"
    environment = {
        **os.environ,
        VARIABLE: str(cache_root),
        "CLOCK_FILE": str(file),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    }
    options = ["-q", "-p", "suite_clock", "-p", "no:cacheprovider", "-p", "no:benchmark"]
    command = [sys.executable, "-m", "pytest", *options, f"--kernel={kernel.spec}"]
    began = time.time()
    done = benchmark.pedantic(
        subprocess.run,
        args=([*command, "--pyargs", SUITE],),
        kwargs={"env": environment, "cwd": tmp_path, "capture_output": True, "text": True},
    )
    # a rule that does not hold takes as long
    finished = {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
    assert done.returncode in finished, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(file.read_text())
    benchmark.extra_info["tests"] = told["tests"]
    benchmark.extra_info["seconds to the first test"] = told["first"] - began
    per_second = told["tests"] / (told["last"] - told["first"])
    benchmark.extra_info["tests per second"] = per_second
    with capsys.disabled():
        print(  # noqa: T201 - pytest-benchmark's table does not show extra_info
            f"\n{SUITE}: {told['tests']} tests, the first after {told['first'] - began:.2f} s, "
            f"then {per_second:.0f} a second"
        )
