# SPDX-License-Identifier: GPL-2.0-only
"""How long a developer waits: from a saved file of iommufd to the rules' verdicts."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import TYPE_CHECKING

import pytest
from test_speed import CLOCK
from watching import EditedTree, Watching

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

FILE = "drivers/iommu/iommufd/hw_pagetable.c"
SAVES = 5
AFTER = r"([\d.]+) s after the save$"
SPENT = r"\(module ([\d.]+) s, (\d+) tests? ([\d.]+) s\)"


@pytest.mark.parametrize(
    "arguments", [("--rule=hwpt_type.selftest.*",), ()], ids=["one type", "default suite"]
)
def test_from_save_to_verdict(
    arguments: tuple[str, ...],
    benchmark: BenchmarkFixture,
    edited_tree: EditedTree,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each time another edit, so that it is compiled."""
    (tmp_path / "suite_clock.py").write_text(CLOCK)
    clock = tmp_path / "clock"
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ("-p", "suite_clock", "-p", "no:benchmark", *arguments)
    loop = Watching(edited_tree, *options, CLOCK_FILE=str(clock), PYTHONPATH=path)
    numbers = itertools.count()
    rounds: list[tuple[float, ...]] = []

    def save() -> str:
        # what is compiled differs, and what it does does not
        edited_tree.save(FILE, lambda text: f"{text}int edit_{next(numbers)};\n")
        return loop.until(AFTER)[-1]

    def note(line: str) -> None:
        found = re.search(f"{SPENT}, {AFTER}", line)
        assert found, line
        last = json.loads(clock.read_text())
        rounds.append((*map(float, found.groups()), last["last"] - last["first"]))

    try:
        loop.until(r"tests? \d")
        benchmark.pedantic(lambda: note(save()), rounds=SAVES)
        loop.interrupt()
    finally:
        loop.close()
        edited_tree.put_back(FILE)
    make, tests, running, total, testing = sorted(rounds, key=lambda one: one[3])[SAVES // 2]
    benchmark.extra_info |= {"make": make, "pytest": running, "tests": tests}
    noticing = total - make - running
    with capsys.disabled():
        print(  # noqa: T201 - pytest-benchmark's table does not show extra_info
            f"\nfrom save to verdict {total:.1f} s: noticing and copying {noticing:.1f} s, "
            f"make {make:.1f} s, pytest and boot {running - testing:.1f} s, "
            f"{tests:.0f} tests {testing:.1f} s"
        )
