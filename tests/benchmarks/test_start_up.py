# SPDX-License-Identifier: GPL-2.0-only
"""What a run of pytest that has nothing to do with iommufd pays for the installed plugin."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

RUNS = 15


def _seconds(*arguments: str) -> float:
    """Processor time, which other programs of the machine disturb less than a clock."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_an_unused_plugin_s_start_up(
    benchmark: BenchmarkFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(tmp_path):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    pairs = [(_seconds(), _seconds("-p", "no:iommufd")) for _ in range(RUNS)]
    with_us, without = (min(times) for times in zip(*pairs, strict=True))
    benchmark.extra_info["milliseconds"] = round(1000 * (with_us - without), 1)
    benchmark.pedantic(_seconds, rounds=1)
    print(f"the unused plugin costs {1000 * (with_us - without):.1f} ms")  # noqa: T201
