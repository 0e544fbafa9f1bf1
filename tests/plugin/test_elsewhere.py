# SPDX-License-Identifier: GPL-2.0-only
"""Machines elsewhere in a run with several workers: each is tested by one of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from elsewhere import HOST, StandIn

from pytest_iommufd.plugin.sharing import share_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., pytest.RunResult]

TESTS = 6
NAMES = ("ssh-a", "ssh-a-1", "ssh-b")
SUITE = f"""
import pytest
from pytest_iommufd.lab import LAB

@pytest.mark.parametrize("number", range({TESTS}))
def test_it(kernel, number, pytestconfig, worker_id):
    machine = pytestconfig.stash[LAB].bench(kernel.spec).machine
    machine.process().end()
    with open({{used!r}}, "a") as file:
        file.write(f"{{{{kernel.host}}}} {{{{worker_id}}}} {{{{machine.boots}}}}\\n")
"""


@pytest.fixture
def users(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counter[str]]:
    """Runs a suite on machines, and tells which worker ran how many tests on which."""
    StandIn(tmp_path, monkeypatch).boots(1)
    used = tmp_path / "used"

    def make(*hosts: str, workers: int) -> Counter[str]:
        kernels = [f"--kernel=ssh:{host}" for host in hosts]
        result = run(SUITE.format(used=str(used)), *kernels, "-n", str(workers), kernel=False)
        result.assert_outcomes(passed=TESTS * len(hosts))
        result.stdout.fnmatch_lines(
            [f"iommufd: one worker for all tests of each of: {', '.join(hosts)}"]
        )
        return Counter(used.read_text().splitlines())

    return make


def test_one_machine_is_tested_by_one_worker(users: Callable[..., Counter[str]]) -> None:
    [(_, tests)] = users(HOST, workers=2).items()
    assert tests == TESTS


def test_two_machines_are_tested_by_a_worker_each(users: Callable[..., Counter[str]]) -> None:
    found = users(f"{HOST}-a", f"{HOST}-b", workers=2)
    assert list(found.values()) == [TESTS, TESTS]
    assert len({line.split()[0] for line in found}) == 2
    assert len({line.split()[1] for line in found}) == 2


@pytest.mark.parametrize(
    ("nodeid", "share"),
    [
        ("x.py::test[ssh-b]", "ssh-b"),
        ("x.py::test[0-ssh-b-1]", "ssh-b"),
        ("x.py::test[ssh-b2-1]", "x.py::test[ssh-b2-1]"),
        ("x.py::test[6.12-0]", "x.py::test[6.12-0]"),
        ("x.py::test", "x.py::test"),
        ("x.py::test[ssh-a-1]", "ssh-a"),
        ("x.py::test[ssh-a-1-1]", "ssh-a"),
    ],
)
def test_whose_a_test_is(nodeid: str, share: str) -> None:
    assert share_of(nodeid, NAMES) == share


@pytest.mark.parametrize("how", ["each", "loadfile", "loadgroup", "worksteal"])
def test_no_other_distribution_is_taken(run: Run, how: str) -> None:
    result = run(
        SUITE.format(used=""), f"--kernel=ssh:{HOST}", "-n2", f"--dist={how}", kernel=False
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [
            f"ERROR: --dist {how} has several workers test one machine*",
            "expected: --dist load,*",
        ]
    )
