# SPDX-License-Identifier: GPL-2.0-only
"""How long the suites take beside the kernel's C selftest, on the same kernel and in one run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import c_selftest
import guest_program
import pytest

from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.lab import Bench, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

SPEC = "7.3"
C_SECONDS = 300


def run_suites(folder: Path, *args: str) -> float:
    began = time.monotonic()
    suites = ("-q", "-p", "no:cacheprovider", "--pyargs", "pytest_iommufd.suites")
    command = [sys.executable, "-m", "pytest", "--kernel", SPEC, *args, *suites]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return time.monotonic() - began


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one guest", "two guests"])
def test_suites_beside_the_c_selftest(
    benchmark: BenchmarkFixture, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    bench = Bench(resolve(SPEC), Settings(default_root()))
    bench.ready()
    seconds, results = 0.0, 0
    for program in c_selftest.build(bench.kernel, tmp_path):
        ran = guest_program.run(bench.machine, program, seconds=C_SECONDS)
        seconds += ran.seconds
        results += len(re.findall(r"^(?:not )?ok ", ran.output, re.MULTILINE))
    bench.machine.stop()
    ours = benchmark.pedantic(run_suites, (tmp_path, *workers), rounds=1)
    benchmark.extra_info |= {
        "C selftest, seconds": round(seconds, 1),
        "C selftest, results": results,
        "of the C selftest's time": round(ours / seconds, 2),
        "CPUs": os.cpu_count(),
    }
