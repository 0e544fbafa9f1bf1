# SPDX-License-Identifier: GPL-2.0-only
"""examples/new_hwpt_type: what its README says is so, on the kernel of its series."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mutant import ALL, Batch, Mutant, batches

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "new_hwpt_type"
KERNEL = f"7.3+{EXAMPLE / 'mock-s1'}"
README = (EXAMPLE / "README.md").read_text("utf-8")
DATA = "hwpt_type.mock_s1.data"


def _check(name: str, old: str, new: str, rules: str) -> Mutant:
    return Mutant(name, old, new, rules, "mock_nested_data_s1", KERNEL, "selftest.c")


# Each check of the driver, removed.
MUTANTS = [
    _check(
        "flags",
        "~(IOMMU_SELFTEST_S1_WRITE_PROTECT | IOMMU_SELFTEST_S1_SUPERVISOR)",
        "0",
        "field.flags.outside field.flags.outside.viommu",
    ),
    _check(
        "reserved",
        "if (data.__reserved)",
        "if (0)",
        "field.__reserved.outside field.__reserved.outside.viommu",
    ),
    _check(
        "levels_min",
        "data.levels < IOMMU_SELFTEST_S1_LEVELS_MIN",
        "0",
        "field.levels.outside field.levels.outside.viommu",
    ),
    _check(
        "levels_max",
        "data.levels > IOMMU_SELFTEST_S1_LEVELS_MAX",
        "0",
        "field.levels.outside field.levels.outside.viommu",
    ),
    _check(
        "format",
        "data.format != IOMMU_SELFTEST_S1_FORMAT_SMALL &&",
        "0 &&",
        "field.format.outside field.format.outside.viommu",
    ),
    _check(
        "table",
        "!IS_ALIGNED(data.table, SZ_4K)",
        "0",
        "field.table.outside field.table.outside.viommu",
    ),
    _check(
        "minimum",
        "IOMMU_HWPT_DATA_SELFTEST_S1, __reserved",
        "IOMMU_HWPT_DATA_SELFTEST_S1, cookie",
        "length.below_minimum viommu.length",
    ),
    _check(
        "cookie",
        "*iotlb = data.cookie;",
        "*iotlb = 0;",
        "length.from_minimum pointer.ends_before_hole pointer.readonly pointer.unaligned "
        "field.__reserved.inside field.flags.inside field.levels.inside field.format.inside "
        "field.table.inside",
    ),
    Mutant(
        "type",
        "default: rc = -EOPNOTSUPP;",
        "default: rc = mock_nested_data_s1(user_data, &iotlb);",
        "type.other type.unknown viommu.type",
        "__mock_domain_alloc_nested",
        KERNEL,
        "selftest.c",
    ),
]
# Those that break rules of their own are made in one kernel; the rest takes as long again.
BATCHES = batches((DATA, mutant) for mutant in MUTANTS)[: None if ALL else 1]


@pytest.fixture
def example(pytester: pytest.Pytester) -> None:
    """The example's declaration, where pytest is run."""
    shutil.copy(EXAMPLE / "conftest.py", pytester.path)


@pytest.mark.usefixtures("example")
def test_the_declaration_gives_what_readme_says(pytester: pytest.Pytester) -> None:
    command = re.findall(r"^```sh\npytest (.*)\n```$", README, re.MULTILINE)
    (words,) = (line.replace("7.3+mock-s1/", KERNEL).replace("'", "").split() for line in command)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", *words)
    assert result.ret == 0
    found = re.search(r"gives (\d+) tests of (\d+) rules: all hold but two,", README)
    assert found
    tests, rules = map(int, found.groups())
    assert tests >= 60
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed", "xfailed", "deselected"}
    assert outcomes["passed"] + outcomes["xfailed"] == tests
    result.stdout.fnmatch_lines([f"7.3+mock-s1: {rules - 2} holds, 2 known defect, * not run"])


def test_the_declaration_is_short() -> None:
    tree = ast.parse((EXAMPLE / "conftest.py").read_text("utf-8"))
    (declaration,) = (node for node in tree.body if isinstance(node, ast.Assign))
    assert declaration.end_lineno
    lines = declaration.end_lineno - declaration.lineno + 1
    assert lines <= 15
    assert f"{lines} lines" in README


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_each_check_of_the_driver_is_noticed(
    batch: Batch, run_edited: Callable[..., pytest.RunResult]
) -> None:
    result = run_edited(KERNEL, batch.apply, f"--rule={DATA}.*", suites=["hwpt_type"])
    violated = re.findall(rf"^({DATA}\.\S+) +violated", result.stdout.str(), re.MULTILINE)
    assert set(violated) == batch.slugs
