# SPDX-License-Identifier: GPL-2.0-only
"""The suite of real devices, on each IOMMU that QEMU emulates."""

from __future__ import annotations

import json
from typing import Any

import pytest

SUITE = "pytest_iommufd.suites.vfio_device"
# Known defects, and what the kernel gives instead.
DEFECTS = {
    "vfio_device.reserved.replace.failed": "violated",
    "vfio_device.nested.attach.failed_replace": "violated",
    "vfio_device.dma.failed_replace": "violated",
    "vfio_device.nested.flags.unknown": "OK",
    "vfio_device.nested.reserved": "OK",
    "vfio_device.hwpt_alloc.pasid": "OK",
    "vfio_device.nested.pasid": "OK",
}
DEFECTS_OF_TYPES = {
    "hwpt_type.vtd_s1.alloc.pt.unknown",
    "hwpt_type.vtd_s1.alloc.pt.destroyed",
    "hwpt_type.vtd_s1.data.field.flags.outside",
    "hwpt_type.vtd_s1.data.field.__reserved.outside",
}
NO_MOCK_DEVICES = (
    "the kernel has no mock devices beside real ones: it was built without CONFIG_IOMMUFD_TEST, "
    "or asks the real IOMMU's driver about them"
)
# By IOMMU: kernels with what their rules may be absent for. The first nests.
RUNS = {
    "intel": {
        "7.3+vtd-nesting": {
            "the devices are not behind AMD's IOMMU: --iommufd-iommu amd",
            "the IOMMU isolates interrupts, or the machine is not a guest of ours",
        },
        "6.12": {
            "the devices are not behind AMD's IOMMU: --iommufd-iommu amd",
            "the IOMMU isolates interrupts, or the machine is not a guest of ours",
            "the IOMMU has no nested translation",
            "the IOMMU does not track dirty pages",
            NO_MOCK_DEVICES,
            "IOMMU_HWPT_FAULT_ID_VALID with an IOAS gives EOPNOTSUPP for any fault_id",
            "the kernel's header does not define IOMMU_HW_INFO_FLAG_INPUT_TYPE",
            "the kernel's header does not define IOMMU_VIOMMU_ALLOC",
            "the kernel's header does not define VFIO_DEVICE_ATTACH_PASID",
            "the kernel's header does not define vfio_device_bind_iommufd.token_uuid_ptr",
        },
    },
    "amd": {
        "7.3": {
            "the devices are not behind VT-d: --iommufd-iommu intel",
            "the IOMMU has no page tables for PASIDs",
        },
    },
}


@pytest.mark.parametrize("iommu", RUNS)
def test_nothing_but_the_defects_does_not_hold(pytester: pytest.Pytester, iommu: str) -> None:
    results = _run(pytester, f"--iommufd-iommu={iommu}", *(f"--kernel={k}" for k in RUNS[iommu]))
    known = DEFECTS if iommu == "intel" else {}  # all are of its driver
    for kernel, reasons in RUNS[iommu].items():
        given = {slug: result[kernel] for slug, result in results.items()}
        wrong = {slug for slug, one in given.items() if one["mark"] not in ("holds", "absent")}
        assert wrong == {slug for slug in known if given[slug]["mark"] != "absent"}
        assert {one["reason"] for one in given.values() if one["mark"] == "absent"} == reasons
    if iommu == "intel":
        gave = {slug: results[slug]["7.3+vtd-nesting"]["gave"] for slug in DEFECTS}
        assert gave == DEFECTS


def test_without_an_iommu_all_are_absent(pytester: pytest.Pytester) -> None:
    results = _run(pytester, "--kernel=7.3")
    assert {one["7.3"]["mark"] for one in results.values()} == {"absent"}
    assert {one["7.3"]["reason"] for one in results.values()} == {
        "no PCI device is given to the tests: --iommufd-iommu intel or amd"
    }


def test_the_declared_type_of_vtd_is_as_its_driver_takes_it(pytester: pytest.Pytester) -> None:
    kernel = "7.3+vtd-nesting"
    results = _run(
        *(pytester, "--iommufd-iommu=intel", f"--kernel={kernel}", "--rule=hwpt_type.vtd_s1.*"),
        suite="pytest_iommufd.suites.hwpt_type",
    )
    given = {slug: one[kernel] for slug, one in results.items() if ".vtd_s1." in slug}
    wrong = {slug for slug, one in given.items() if one["mark"] not in ("holds", "absent")}
    assert wrong == DEFECTS_OF_TYPES
    assert {given[slug]["mark"] for slug in wrong} == {"known defect"}
    # it takes whatever is in the struct, so that no data of all ones is rejected
    reasons = [one["reason"] for one in given.values() if one["mark"] == "absent"]
    assert reasons == ["by its declaration the driver checks no field"]
    assert given["hwpt_type.vtd_s1.alloc.valid"]["mark"] == "holds"


def _run(pytester: pytest.Pytester, *options: str, suite: str = SUITE) -> dict[str, Any]:
    file = pytester.path / "rules.json"
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "--rules-json", str(file), *options, "--pyargs", suite)
    )
    assert result.ret == 0
    return {rule["slug"]: rule["results"] for rule in json.loads(file.read_text())["rules"]}
