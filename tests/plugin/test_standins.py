# SPDX-License-Identifier: GPL-2.0-only
"""Real devices in the place of mock ones, under a kernel that is taken for one without them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.uapi.absence import NO_IOMMUFD_TEST

if TYPE_CHECKING:
    from collections.abc import Callable

WITHOUT_IOMMUFD_TEST = """
from pytest_iommufd import lab

answered = lab._absent
lab._absent = lambda *args: answered(*args) | {"IOMMU_TEST_CMD"}
"""
RULES = """
import pytest
from pytest_iommufd import rule

@rule("area.device")
def test_device(iommufd, mock_device, ioas, other_ioas, buffer):
    ioas.map(buffer)
    iommufd.hwpt_alloc(mock_device, ioas).destroy()
    mock_device.replace(other_ioas)
    ioas.destroy()

@rule("area.again")
def test_again(mock_devices):
    for _ in range(9):
        mock_devices().destroy()

@rule("area.other_context")
def test_other_context(mock_device, other_iommufd):
    other_iommufd.mock_device(other_iommufd.ioas_alloc())

@rule("area.claimed")
class TestClaimed:
    @pytest.fixture
    def has_nesting(self):
        return True

    def test_claimed(self, parent_hwpt):
        pass

@rule("area.parent")
def test_parent(parent_hwpt):
    pass

@rule("area.dirty")
def test_dirty(iommufd, mock_device, ioas, uapi):
    iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)

@rule("area.many")
def test_many(mock_devices):
    for _ in range(9):
        mock_devices()

@rule("area.object")
def test_object(mock_device):
    mock_device.selftest.destroy()

@rule("area.pasid")
def test_pasid(mock_devices):
    mock_devices(pasid=True)
"""
HOLDS = ("device", "again", "other_context")
ABSENT = {
    "parent": "the real device's IOMMU has no nested translation",
    "dirty": "the real device's IOMMU does not track dirty pages",
    "many": "there are real devices in * IOMMU groups only",
    "object": "a real device does not have the object of a mock device",
}


@pytest.fixture
def kernel_option() -> list[str]:
    """The kernel that the run within is given, with real devices."""
    return ["--kernel=7.3", "--iommufd-iommu=intel"]


def test_real_devices_are_used_as_far_as_they_go(
    run: Callable[..., pytest.RunResult], pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(WITHOUT_IOMMUFD_TEST)
    result = run(RULES, "-v", "-rs")
    result.assert_outcomes(passed=len(HOLDS), skipped=len(ABSENT) + 1, errors=1)
    marks = dict(re.findall(r"^area\.(\w+) +(\w+)", result.stdout.str(), re.MULTILINE))
    expected = dict.fromkeys(HOLDS, "holds") | dict.fromkeys((*ABSENT, "pasid"), "absent")
    # what the registers promise and the driver refuses is red
    assert marks == expected | {"claimed": "violated"}
    reasons = [f"*absent: {NO_IOMMUFD_TEST}; and {reason}" for reason in ABSENT.values()]
    result.stdout.fnmatch_lines_random([*reasons, f"*absent: {NO_IOMMUFD_TEST}"])
