# SPDX-License-Identifier: GPL-2.0-only
"""Ids that name nothing, or an object of a wrong type."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule

NOTHING = {"zero": 0, "never_used": 9999, "all_ones": 0xFFFF_FFFF}
# Fixtures by the kind of object that they make.
OBJECTS = {
    "ioas": "ioas",
    "auto_hwpt": "auto_hwpt",
    "plain_hwpt": "hwpt",
    "parent_hwpt": "parent_hwpt",
    "nested_hwpt": "nested_hwpt",
    "selftest": "selftest_object",
    "fault_queue": "fault_queue",
    "access": "access_id",
    "viommu": "viommu",
    "vdevice": "vdevice_id",
    "veventq": "veventq_id",
    "hw_queue": "hw_queue_id",
}
UNSUITABLE = ("selftest", "fault_queue", "access", "vdevice", "veventq", "hw_queue")


@rule("hwpt_alloc.dev_id.names_nothing")
@pytest.mark.parametrize("number", NOTHING.values(), ids=NOTHING)
def test_dev_id_names_nothing(expected, iommufd, mock_device, ioas, number):
    assert number not in (mock_device.id, ioas.id)
    with expected:
        iommufd.hwpt_alloc(number, ioas)


@rule("hwpt_alloc.dev_id.high_bit")
def test_dev_id_counts_all_its_bits(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device.id | 1 << 31, ioas)


@rule("hwpt_alloc.dev_id.destroyed")
def test_dev_id_of_a_destroyed_device(expected, iommufd, destroyed_device, ioas):
    with expected:
        iommufd.hwpt_alloc(destroyed_device, ioas)


@rule("hwpt_alloc.dev_id.other_type")
@pytest.mark.parametrize("kind", ["ioas", "auto_hwpt", "nested_hwpt", "selftest", "viommu"])
def test_dev_id_of_another_type(expected, iommufd, ioas, kind, request):
    other = request.getfixturevalue(OBJECTS[kind])
    with expected:
        iommufd.hwpt_alloc(other, ioas)


@rule("hwpt_alloc.dev_id.other_type.nested")
@pytest.mark.parametrize("kind", ["ioas", "parent_hwpt", "selftest"])
def test_dev_id_of_another_type_for_a_nested(
    expected, iommufd, parent_hwpt, hwpt_type, kind, request
):
    other = request.getfixturevalue(OBJECTS[kind])
    with expected:
        iommufd.hwpt_alloc(other, parent_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.dev_id.other_context")
def test_dev_id_of_another_context(expected, iommufd, other_iommufd, ioas):
    foreign = other_iommufd.mock_device(other_iommufd.ioas_alloc())
    with expected:
        iommufd.hwpt_alloc(foreign, ioas)


@rule("hwpt_alloc.pt_id.names_nothing")
@pytest.mark.parametrize("number", NOTHING.values(), ids=NOTHING)
def test_pt_id_names_nothing(expected, iommufd, mock_device, number):
    assert number != mock_device.id
    with expected:
        iommufd.hwpt_alloc(mock_device, number)


@rule("hwpt_alloc.pt_id.high_bit")
def test_pt_id_counts_all_its_bits(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas.id | 1 << 31)


@rule("hwpt_alloc.pt_id.destroyed")
def test_pt_id_of_a_destroyed_ioas(expected, iommufd, mock_device, destroyed_ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, destroyed_ioas)


@rule("hwpt_alloc.pt_id.destroyed_parent")
def test_pt_id_of_a_destroyed_parent(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    parent_hwpt.destroy()
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.pt_id.device")
@pytest.mark.parametrize("data", [False, True], ids=["no_data", "data"])
def test_pt_id_of_the_device(expected, iommufd, mock_device, hwpt_type, data):
    with expected:
        iommufd.hwpt_alloc(mock_device, mock_device, hwpt_type.valid() if data else None)


@rule("hwpt_alloc.pt_id.other_type")
@pytest.mark.parametrize("data", [False, True], ids=["no_data", "data"])
@pytest.mark.parametrize("kind", UNSUITABLE)
def test_pt_id_of_another_type(expected, iommufd, mock_device, hwpt_type, kind, request, data):
    wrong = request.getfixturevalue(OBJECTS[kind])
    with expected:
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid() if data else None)


@rule("hwpt_alloc.pt_id.other_context")
@pytest.mark.parametrize("kind", ["ioas", "parent"])
def test_pt_id_of_another_context(
    expected, iommufd, other_iommufd, mock_device, hwpt_type, parent_flags, kind
):
    foreign = other_iommufd.ioas_alloc()
    if kind == "ioas":
        with expected:
            iommufd.hwpt_alloc(mock_device, foreign)
    else:
        device = other_iommufd.mock_device(foreign)
        parent = other_iommufd.hwpt_alloc(device, foreign, flags=parent_flags)
        with expected:
            iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid())
