# SPDX-License-Identifier: GPL-2.0-only
"""Two errors in one call that tell the dialects apart by which of them is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from collections.abc import Callable


UNKNOWN = 9999
BIT_31 = 1 << 31
FAULT_ID_VALID = 4
# What is wrong; "parent" stands for good data with a parent, "ioas" for an IOAS without data.
# Strings name fixtures.
WITH_PARENT: dict[str, dict[str, Any]] = {
    "flag_and_pt_id_type": {"flags": BIT_31, "pt": "mock_device"},
    "no_length_and_dev_id": {"data_len": 0, "device": UNKNOWN},
    "no_type_and_dev_id": {"data_type": 0, "device": UNKNOWN},
    "pt_id_and_unreadable_data": {"pt": UNKNOWN, "data_uptr": "unmapped"},
    "pt_id_and_oversized_data": {"pt": UNKNOWN, "data_len": 64, "data_uptr": "ones"},
    "auto_parent_and_unreadable_data": {"pt": "auto_hwpt", "data_uptr": "unmapped"},
    "plain_parent_and_unreadable_data": {"pt": "hwpt", "data_uptr": "unmapped"},
    "length_and_pointer": {"data_len": 3, "data_uptr": "unmapped"},
    "unknown_type_and_pointer": {"data_type": 1, "data_uptr": "unmapped"},
    "unknown_type_and_plain_parent": {"data_type": 1, "pt": "hwpt"},
}
WITH_IOAS: dict[str, dict[str, Any]] = {
    "flag_and_dev_id": {"flags": BIT_31, "device": UNKNOWN},
    "flag_and_pt_id": {"flags": BIT_31, "pt": UNKNOWN},
    "short_data_and_fault_id": {
        "data_type": 0xDEAD,
        "data_len": 3,
        "data_uptr": "ones",
        "flags": FAULT_ID_VALID,
    },
}
UNWRITABLE: dict[str, dict[str, Any]] = {
    "pt_id_and_unwritable": {"pt_id": UNKNOWN},
    "fault_id_and_unwritable": {"flags": FAULT_ID_VALID},
}


def _conflicts(known: dict[str, dict[str, Any]]) -> list[Any]:
    return [
        pytest.param(wrong, marks=rule(f"hwpt_alloc.conflict.{name}"), id=name)
        for name, wrong in known.items()
    ]


@pytest.fixture
def resolved(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Puts fixtures in place of their names."""

    def look_up(wrong: dict[str, Any]) -> dict[str, Any]:
        return {
            name: request.getfixturevalue(value) if isinstance(value, str) else value
            for name, value in wrong.items()
        }

    return look_up


@pytest.mark.parametrize("wrong", _conflicts(WITH_PARENT))
def test_two_errors_with_a_parent(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, resolved, wrong
):
    given = {"device": mock_device, "pt": parent_hwpt} | resolved(wrong)
    with expected:
        iommufd.hwpt_alloc(given.pop("device"), given.pop("pt"), hwpt_type.valid(), **given)


@pytest.mark.parametrize("wrong", _conflicts(WITH_IOAS))
def test_two_errors_with_an_ioas(expected, iommufd, mock_device, ioas, resolved, wrong):
    given = {"device": mock_device, "pt": ioas} | resolved(wrong)
    with expected:
        iommufd.hwpt_alloc(given.pop("device"), given.pop("pt"), **given)


@pytest.mark.parametrize("wrong", _conflicts(UNWRITABLE))
def test_error_and_a_struct_that_cannot_be_written(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, uapi, type_field, readonly, wrong
):
    data = hwpt_type.valid()
    fields = {
        "size": uapi.sizeof("iommu_hwpt_alloc"),
        "dev_id": mock_device.id,
        "pt_id": parent_hwpt.id,
        type_field: data.type,
        "data_len": len(data.content),
        "data_uptr": iommufd.put(data.content),
    }
    at = readonly(bytes(uapi.struct("iommu_hwpt_alloc", **(fields | wrong))))
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
