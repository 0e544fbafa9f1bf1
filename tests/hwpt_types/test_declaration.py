# SPDX-License-Identifier: GPL-2.0-only
"""Declarations of data types, right and wrong, against the headers that come with us."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_iommufd import AnyValue, Bits, HwptType, Invalidation, OneOf, Problem, Reserved, Within
from pytest_iommufd.hwpt_types import shipped
from pytest_iommufd.uapi import Uapi

HEADERS = {uapi.name: uapi for uapi in Uapi.shipped()}
NEWEST = Uapi.shipped()[0]
GOOD: dict[str, Any] = {
    "name": "good",
    "data_type": "IOMMU_HWPT_DATA_VTD_S1",
    "struct": "iommu_hwpt_vtd_s1",
    "sample": {"addr_width": 48},
}


def wrong(**changed: Any) -> Problem:
    """Return the error about a declaration; it is made in this file."""
    with pytest.raises(Problem) as caught:
        HwptType(**(GOOD | changed)).check_known(HEADERS)
    assert __file__ in caught.value.what
    assert caught.value.mend.startswith(f"correct {__file__}:")
    return caught.value


def test_those_that_come_with_us_are_right() -> None:
    for declared in shipped.TYPES:
        declared.check_known(HEADERS)


def test_line_of_a_declaration() -> None:
    line = HwptType(**GOOD).where.rpartition(":")[2]
    with open(__file__, encoding="utf-8") as file:  # noqa: PTH123 - as messages name it
        text = file.read().splitlines()[int(line) - 1]
    assert "line = HwptType(" in text


def test_type_that_no_header_has() -> None:
    problem = wrong(data_type="IOMMU_HWPT_DATA_VTD_S2")
    assert "IOMMU_HWPT_DATA_VTD_S2 is no constant" in problem.what
    assert "did you mean IOMMU_HWPT_DATA_VTD_S1?" in problem.what
    assert "HwptType good" in problem.what


def test_struct_that_no_header_has() -> None:
    assert "did you mean iommu_hwpt_vtd_s1?" in wrong(struct="iommu_hwpt_vtd_s2").what


def test_field_that_the_struct_does_not_have() -> None:
    for changed in ({"sample": {"addr": 1}}, {"fields": {"addr": AnyValue()}}, {"minimum": "addr"}):
        problem = wrong(**changed)
        assert "struct iommu_hwpt_vtd_s1 has no field addr" in problem.what
        assert problem.expected == "one of flags, pgtbl_addr, addr_width, __reserved"


@pytest.mark.parametrize(
    ("sample", "what"),
    [
        ({"addr_width": 1 << 32}, "addr_width = 4294967296 does not fit __u32"),
        ({"addr_width": "IOMMU_NOTHING"}, "IOMMU_NOTHING is no constant"),
        ({"addr_width": [48]}, "does not fit __u32"),
    ],
)
def test_sample_that_does_not_fit(sample: dict[str, Any], what: str) -> None:
    assert what in wrong(sample=sample).what


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (Within(49, 57), "49 to 57"),
        (OneOf(57), "one of 57"),
        (Bits(0xF), "bits of 0xf"),
        (Reserved(), "0"),
    ],
)
def test_sample_that_is_no_value_of_its_field(values: Any, expected: str) -> None:
    problem = wrong(fields={"addr_width": values})
    assert "the sample's addr_width = 0x30 is no value of that field" in problem.what
    assert problem.expected == expected


def test_errno_that_there_is_not() -> None:
    assert "EINVALID" in wrong(fields={"addr_width": Within(1, 64, errno="EINVALID")}).what
    assert "ENOSUCH" in wrong(wrong_type="ENOSUCH").what


def test_value_that_does_not_fit_its_field() -> None:
    assert "does not fit __u32" in wrong(fields={"addr_width": Bits(1 << 40, 0x30)}).what


@pytest.mark.parametrize("values", [Bits(0xFFFF_FFFF), Within(0, 0xFFFF_FFFF)])
def test_values_that_leave_none_outside(values: Any) -> None:
    problem = wrong(fields={"addr_width": values})
    assert f"no value of addr_width can give {values.errno}" in problem.what
    assert problem.expected == "AnyValue(), or fewer values"


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"name": "no name"}, "'no name' is no name for rules"),
        ({"device": "pci"}, "device = 'pci'"),
        ({"device": "vfio"}, "a vfio device without hw_info"),
        ({"flags": ("IOMMU_HWPT_ALLOC_PASSID",)}, "did you mean IOMMU_HWPT_ALLOC_PASID?"),
    ],
)
def test_declaration_that_makes_no_sense(changed: dict[str, Any], what: str) -> None:
    assert what in wrong(**changed).what


def test_wrong_part() -> None:
    entries = Invalidation(
        data_type="IOMMU_HWPT_INVALIDATE_DATA_VTD_S1",
        struct="iommu_hwpt_vtd_s1_invalidate",
        sample={"pages": 1},
    )
    problem = wrong(invalidation=entries)
    assert "Invalidation IOMMU_HWPT_INVALIDATE_DATA_VTD_S1" in problem.what
    assert "no field pages" in problem.what


def test_values() -> None:
    assert Within(3, 5).inside(8, NEWEST) == [3, 5]
    assert Within(3, 5).outside(8, NEWEST) == [2, 6, 255]
    assert Within(0, 255).outside(8, NEWEST) == []
    assert OneOf(1, 4).outside(8, NEWEST) == [0, 2, 3, 5, 255]
    assert Bits(0x11).inside(8, NEWEST) == [0, 0x11, 1, 0x10]
    assert Bits(0x11).outside(8, NEWEST) == [2, 4, 8, 0x20, 0x40, 0x80]
    assert len(Reserved().outside(64, NEWEST)) == 64
    assert Bits("IOMMU_VTD_S1_SRE").inside(64, NEWEST) == [0, 1]
    assert AnyValue().inside(8, NEWEST) == [0, 1, 255]


def test_reserved_fields_need_no_word() -> None:
    values = HwptType(**GOOD).values(NEWEST)
    assert list(values) == ["__reserved"]
    assert values["__reserved"].outside(2, NEWEST) == [1, 2]


def test_elements_of_an_array() -> None:
    declared = shipped.ARM_SMMUV3
    assert declared.bits(NEWEST, "ste[1]") == 64
    assert declared.value(NEWEST, "ste[0]") == 9
    made = declared.with_value(NEWEST, "ste[1]", 0xFF)
    assert made == (9).to_bytes(8, "little") + (0xFF).to_bytes(8, "little")


def test_fields_of_a_newer_header_are_left_out_of_an_older_one() -> None:
    older = HEADERS["6.12"]
    assert "pagetable_type" not in shipped.SELFTEST.values(older)
    assert "pagetable_type" in shipped.SELFTEST.values(NEWEST)
    assert shipped.SELFTEST.least(older) == shipped.SELFTEST.least(NEWEST) == 4
