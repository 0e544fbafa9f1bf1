# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel's header lacks that another has; here of 6.12, which has no vIOMMUs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = """
import pytest
from pytest_iommufd import rule

@pytest.fixture
def number(uapi):
    return uapi.IOMMU_IOAS_MAP_FILE

@rule("area.constant")
def test_constant(number):
    pass

@rule("area.ioctl")
@pytest.mark.parametrize("name", ["IOMMU_VIOMMU_ALLOC", "viommu_alloc"])
def test_ioctl(iommufd, name):
    iommufd.ioctl(name)

@rule("area.field")
def test_field(iommufd):
    iommufd.test("pasid_detach", pasid_detach={"pasid": 1})

@rule("area.mistake")
def test_mistake(uapi):
    uapi.IOMMU_VIOMMU_ALOC

def test_of_no_rule(uapi):
    uapi.IOMMU_VIOMMU_ALLOC
"""


@pytest.fixture
def kernel_option() -> list[str]:
    """The kernel that the run within is given."""
    return ["--kernel=6.12"]


def test_a_rule_is_absent_if_only_other_headers_have_a_name(
    run: Callable[..., pytest.RunResult],
) -> None:
    result = run(RULES, "-v", "-rs")
    result.assert_outcomes(skipped=4, failed=2)
    text = result.stdout.str()
    marks = dict(re.findall(r"^area\.(\w+) +(\w+)", text, re.MULTILINE))
    expected = dict.fromkeys(("constant", "ioctl", "field"), "absent")
    assert marks == expected | {"mistake": "violated"}
    missing = set(re.findall(r"the kernel's header does not define (\S+)", text))
    assert {"IOMMU_IOAS_MAP_FILE", "IOMMU_VIOMMU_ALLOC"} < missing
