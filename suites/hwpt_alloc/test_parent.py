# SPDX-License-Identifier: GPL-2.0-only
"""HWPTs that are no parent."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule

NO_PARENT = {"auto": "auto_hwpt", "plain": "hwpt", "dirty_tracking": "dirty_hwpt"}


@rule("hwpt_alloc.parent.auto")
def test_automatic_hwpt_is_no_parent(expected, iommufd, mock_device, auto_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, auto_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.parent.without_nest_parent")
@pytest.mark.parametrize("kind", ["plain", "dirty_tracking"])
def test_hwpt_without_nest_parent_is_no_parent(
    expected, iommufd, mock_device, hwpt_type, kind, request
):
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with expected:
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid())


@rule("hwpt_alloc.parent.pasid_only")
def test_hwpt_for_pasids_is_no_parent(expected, iommufd, mock_device, ioas, hwpt_type, uapi):
    wrong = iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_PASID)
    with expected:
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid())


@rule("hwpt_alloc.parent.nested")
def test_nested_hwpt_is_no_parent(expected, iommufd, mock_device, nested_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, nested_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.parent.nested.before_flags")
@pytest.mark.parametrize("flags", [1, 2, 1 << 31], ids=["nest_parent", "dirty_tracking", "bit_31"])
def test_nested_hwpt_is_no_parent_whatever_the_flags(
    expected, iommufd, mock_device, nested_hwpt, hwpt_type, flags
):
    with expected:
        iommufd.hwpt_alloc(mock_device, nested_hwpt, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.parent.nested.before_data")
def test_nested_hwpt_is_no_parent_without_data_either(expected, iommufd, mock_device, nested_hwpt):
    with expected:
        iommufd.hwpt_alloc(mock_device, nested_hwpt)


@rule("hwpt_alloc.parent.no_data")
@pytest.mark.parametrize("size", [24, 48])
def test_parent_without_data(expected, iommufd, mock_device, parent_hwpt, size):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, size=size)


@rule("hwpt_alloc.parent.no_data.before_parent")
@pytest.mark.parametrize("kind", NO_PARENT)
def test_no_parent_without_data(expected, iommufd, mock_device, kind, request):
    no_parent = request.getfixturevalue(NO_PARENT[kind])
    with expected:
        iommufd.hwpt_alloc(mock_device, no_parent)


@rule("hwpt_alloc.parent.flags_before_parent")
@pytest.mark.parametrize("flags", [1, 1 << 31], ids=["nest_parent", "bit_31"])
@pytest.mark.parametrize("kind", NO_PARENT)
def test_no_parent_with_a_wrong_flag(
    expected, iommufd, mock_device, hwpt_type, kind, flags, request
):
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with expected:
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.parent.before_memory")
@pytest.mark.parametrize("kind", NO_PARENT)
def test_no_parent_is_found_before_anything_is_made(
    expected, iommufd, mock_device, hwpt_type, kind, request
):
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with expected, iommufd.sending(fail_nth=3):
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid())
