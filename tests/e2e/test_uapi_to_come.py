# SPDX-License-Identifier: GPL-2.0-only
"""A kernel whose iommufd.h is newer than the suites: nothing fails, and what is new is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

SERIES = Path(__file__).resolve().parent / "uapi-to-come"
KERNEL = f"7.3+{SERIES}"
NEW = {
    "IOMMU_IOAS_REQUEST": "command",
    "IOMMU_HWPT_LU_SET_PRESERVE": "command without a struct of its name",
    "iommu_hwpt_lu_preserve": "struct",
    "iommu_hwpt_alloc.lu_session_id": "field",
    "IOMMU_HWPT_ALLOC_LU_PRESERVE": "flag",
    "IOMMU_IOAS_ALLOC_LU": "flag",
    "IOMMU_IOAS_MAP_LU": "flag",
    "IOMMU_FAULT_ALLOC_LU": "flag",
    "IOMMU_VEVENTQ_ALLOC_LU": "flag",
    "IOMMU_HW_QUEUE_ALLOC_LU": "flag",
    "IOMMU_HWPT_DIRTY_TRACKING_LU": "flag",
    "IOMMU_HWPT_GET_DIRTY_BITMAP_LU": "flag",
    "IOMMU_HW_INFO_FLAG_LU": "flag",
    "IOMMU_VIOMMU_LU": "value",
    "IOMMU_OPTION_LU_VERSION": "value",
    "IOMMU_HWPT_DATA_RISCV_FSC": "value",
}
# Of the generic suite all, of others what a larger struct, a flag or an option can break.
RULES = (
    *("generic.*", "*.size.*", "*.flags*", "*.alloc.*", "*.option*", "*.map*", "*.copy*"),
    "*.order*",
)
SUITES = (
    *("generic", "ioas", "hwpt_alloc", "hwpt_type", "viommu", "fault_queue", "veventq"),
    *("hw_queue", "hw_info", "dirty_tracking"),
)
POSITIVE = """
from pytest_iommufd.iommufd import Request

def test_residue(iommufd, ioas):
    request = Request("IOMMU_IOAS_REQUEST", {"ioas_id": ioas, "length": 100})
    made = iommufd.send(request)
    assert made.result.ret == 84
    assert made.argument.out_handled == 16
    assert str(made).endswith(") = 84")

def test_a_positive_result_is_no_failure(iommufd, ioas):
    assert iommufd.ioctl("IOMMU_IOAS_REQUEST", ioas_id=ioas, length=17).out_handled == 16

def test_the_last_call_is_shown(iommufd, ioas):
    iommufd.ioctl("IOMMU_IOAS_REQUEST", ioas_id=ioas, length=20)
    assert False
"""
DECLARATION = """
from pytest_iommufd import HwptType

def pytest_iommufd_hwpt_types():
    # the struct is another type's: what counts here is that a declaration names the number
    return [
        HwptType(
            name="to_come",
            data_type="IOMMU_HWPT_DATA_RISCV_FSC",
            struct="iommu_hwpt_vtd_s1",
            sample={},
            device="vfio",
            hw_info="IOMMU_HW_INFO_TYPE_INTEL_VTD",
        )
    ]
"""


def test_new_names_fail_nothing_and_are_named(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "--iommufd-strict", "-rs", "--kernel", KERNEL),
        *(f"--rule={rule}" for rule in RULES),
        "--rules-json=rules.json",
        *("--pyargs", *(f"pytest_iommufd.suites.{suite}" for suite in SUITES)),
    )
    assert result.ret == 0
    (kernel,) = json.loads(Path("rules.json").read_text())["kernels"]
    assert kernel["undescribed"] == NEW
    result.stdout.fnmatch_lines(["7.3+uapi-to-come: the header has what is not yet described:"])
    result.stdout.fnmatch_lines_random([f"  {kind} {name}" for name, kind in NEW.items()])
    # of what the new command's generic rules are, one needs to know more than the header tells
    skipped = re.findall(
        r"^SKIPPED \[(\d+)\].* IOMMU_IOAS_REQUEST (.*)$", result.stdout.str(), re.MULTILINE
    )
    assert skipped == [
        ("1", "is not yet described: suites/generic/samples.py has no valid call of it")
    ]


def test_a_positive_result_is_reported_and_a_declared_type_is_described(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(DECLARATION)
    pytester.makepyfile(POSITIVE)
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "--kernel", KERNEL, "--rules-json=rules.json")
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["IOMMU_IOAS_REQUEST(*) = 4"])
    (kernel,) = json.loads(Path("rules.json").read_text())["kernels"]
    assert NEW.keys() - kernel["undescribed"].keys() == {"IOMMU_HWPT_DATA_RISCV_FSC"}
