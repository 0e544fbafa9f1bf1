# SPDX-License-Identifier: GPL-2.0-only
"""Names of a header that is newer than the shipped ones, and what it leaves undefined."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_iommufd.uapi import Uapi
from pytest_iommufd.uapi.spare import spare_flags, spare_number
from pytest_iommufd.uapi.undescribed import Kind, undescribed


@pytest.fixture
def description(newest: Uapi) -> dict[str, Any]:
    """The newest header, to be made newer."""
    assert newest.path
    found: dict[str, Any] = json.loads(newest.path.read_bytes())
    return found


def test_shipped_headers_are_described() -> None:
    assert [dict(undescribed(uapi)) for uapi in Uapi.shipped()] == [{}, {}]


def test_new_names_are_told_by_their_kind(description: dict[str, Any]) -> None:
    structs = description["structs"]
    destroy = structs["iommu_destroy"]["decl"]
    structs["iommu_destroy"]["decl"] = destroy.replace(
        "id;", "id;\n\t__u32 why;\n\t__u32 __reserved;"
    )
    structs["iommu_new"] = {"size": 4, "decl": "struct iommu_new {\n\t__u32 size;\n};"}
    structs["iommu_data"] = {"size": 4, "decl": "struct iommu_data {\n\t__u32 asid;\n};"}
    structs["iommu_test_data"] = {"size": 4, "decl": "struct iommu_test_data {\n\t__u32 asid;\n};"}
    description["ioctls"] |= {"IOMMU_NEW": 0x3BF0, "IOMMU_BARE": 0x3BF1}
    description["enums"]["iommufd_option"]["IOMMU_OPTION_NEW"] = 2
    description["enums"]["iommufd_new_flags"] = {"IOMMU_NEW_FLAG": 1}
    description["constants"] |= {"IOMMUFD_CMD_NEW": 0xF0, "IOMMU_TEST_OP_NEW": 99, "VFIO_NEW": 1}
    assert dict(undescribed(Uapi(description, "newer"))) == {
        "IOMMU_NEW": Kind.COMMAND,
        "IOMMU_BARE": Kind.BARE_COMMAND,
        "iommu_destroy.why": Kind.FIELD,
        "iommu_data": Kind.STRUCT,
        "IOMMU_OPTION_NEW": Kind.VALUE,
        "IOMMU_NEW_FLAG": Kind.FLAG,
    }


def test_what_a_header_defines_is_not_spare(newest: Uapi, description: dict[str, Any]) -> None:
    path = "iommu_ioas_map.flags"  # the shipped headers have three
    assert spare_flags(newest, path) == [1 << bit for bit in range(3, 32)]
    description["enums"]["iommufd_ioas_map_flags"]["IOMMU_IOAS_MAP_NEW"] = 1 << 4
    # whose flag it is, this one's name does not tell
    description["enums"]["iommufd_whatever"] = {"IOMMU_NEW": 1 << 31}
    assert spare_flags(Uapi(description, "newer"), path) == [
        1 << bit for bit in range(3, 31) if bit != 4
    ]


def test_spare_number(newest: Uapi, description: dict[str, Any]) -> None:
    path = "iommu_option.option_id"
    assert spare_number(newest, path) == 2
    description["enums"]["iommufd_option"]["IOMMU_OPTION_NEW"] = 2
    assert spare_number(Uapi(description, "newer"), path) == 3
