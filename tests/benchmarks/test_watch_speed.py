# SPDX-License-Identifier: GPL-2.0-only
"""How long a developer waits: from a saved file of iommufd to the rules' verdicts."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import TYPE_CHECKING

from test_speed import CLOCK
from watching import EditedTree, Watching

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pytest_benchmark.fixture import BenchmarkFixture

FILE = "drivers/iommu/iommufd/hw_pagetable.c"
SAVES = 5
AFTER = r"([\d.]+) s after the save$"
SPENT = r"\(module ([\d.]+) s, (\d+) tests? ([\d.]+) s\)"


def test_from_save_to_verdict(
    benchmark: BenchmarkFixture,
    edited_tree: EditedTree,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each time another edit, so that it is compiled; the suite is the default one."""
    (tmp_path / "suite_clock.py").write_text(CLOCK)
    clock = tmp_path / "clock"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ("-p", "suite_clock", "-p", "no:benchmark")
    loop = Watching(edited_tree, *options, CLOCK_FILE=str(clock), PYTHONPATH=path)
    numbers = itertools.count()
    told = []

    def save() -> None:
        # what is compiled differs, and what it does not
        edited_tree.save(FILE, lambda text: f"{text}int edit_{next(numbers)};\n")
        told.append(loop.until(AFTER)[-1])

    try:
        loop.until(r"tests? \d")
        benchmark.pedantic(save, rounds=SAVES)
        loop.interrupt()
    finally:
        loop.close()
        edited_tree.put_back(FILE)
    spent = [re.search(SPENT, line) for line in told]
    assert all(spent), told
    module, tests, running = (
        sorted(float(one[part]) for one in spent if one)[SAVES // 2] for part in (1, 2, 3)
    )
    last = json.loads(clock.read_text())
    testing = last["last"] - last["first"]
    benchmark.extra_info |= {"module": module, "pytest": running, "tests": tests}
    with capsys.disabled():
        print(  # noqa: T201 - pytest-benchmark's table does not show extra_info
            f"\nfrom save to verdict {benchmark.stats.stats.median:.1f} s: module {module:.1f} s, "
            f"pytest {running:.1f} s, of which {tests:.0f} tests {testing:.1f} s"
        )
