# SPDX-License-Identifier: GPL-2.0-only
"""Types that a conftest.py or another plugin adds, and what is told of a wrong one."""

from __future__ import annotations

import pytest

DECLARES = """
from pytest_iommufd import HwptType

def pytest_iommufd_hwpt_types():
    return [
        HwptType(
            name="mine",
            data_type="IOMMU_HWPT_DATA_SELFTEST",
            struct="iommu_hwpt_selftest",
            sample={sample},
        )
    ]
"""
COLLECT = ("--collect-only", "-q", "-p", "no:cacheprovider", "--kernel=7.3")
SUITE = ("--pyargs", "pytest_iommufd.suites.hwpt_type")


@pytest.fixture
def declare(pytester: pytest.Pytester) -> str:
    """A conftest.py with a type."""
    pytester.makeconftest(DECLARES.replace("{sample}", '{"iotlb": 7}'))
    return "mine"


def test_a_conftest_s_type_is_tested(pytester: pytest.Pytester, declare: str) -> None:
    result = pytester.runpytest_subprocess(*COLLECT, *SUITE, f"--rule=hwpt_type.{declare}.*")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"*::test_data_is_not_written[[]{declare}-7.3]"])
    tests = [line for line in result.stdout.lines if "::" in line]
    assert len(tests) > 40
    assert all(declare in line for line in tests)


def test_a_plugin_s_type_is_tested(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(vendor=DECLARES.replace("{sample}", '{"iotlb": 7}'))
    pytester.syspathinsert()
    result = pytester.runpytest_subprocess(*COLLECT, "-p", "vendor", *SUITE)
    result.stdout.fnmatch_lines(["*::test_data_is_not_written[[]mine-7.3]"])
    result.stdout.fnmatch_lines(["*::test_data_is_not_written[[]selftest-7.3]"])


def test_a_wrong_declaration_is_told_once_with_its_place(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(DECLARES.replace("{sample}", '{"iotbl": 7}'))
    result = pytester.runpytest_subprocess(*COLLECT, *SUITE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = (
        "ERROR: *conftest.py:5: HwptType mine: struct iommu_hwpt_selftest has no field iotbl; "
        "did you mean iotlb?"
    )
    result.stderr.fnmatch_lines([told, "expected: one of iotlb*", "to mend it: correct *:5"])
    assert result.stderr.str().count("iotbl") == 1


def test_a_hook_that_gives_something_else_is_told(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_iommufd_hwpt_types():\n    return ['mine']\n")
    result = pytester.runpytest_subprocess(*COLLECT, *SUITE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: the hook pytest_iommufd_hwpt_types gave 'mine'"])
