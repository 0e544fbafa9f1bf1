# SPDX-License-Identifier: GPL-2.0-only
"""HWPTs that are no parent."""

from __future__ import annotations

from errno import EINVAL, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context, Hwpt, HwptType, Ioas, MockDevice

NO_PARENT = {"auto": "auto_hwpt", "plain": "hwpt", "dirty_tracking": "dirty_hwpt"}


@rule("hwpt_alloc.parent.auto")
def test_automatic_hwpt_is_no_parent(
    iommufd: Context, mock_device: MockDevice, auto_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """The HWPT that attaching to an IOAS made is no parent: EINVAL (iommufd_hwpt_nested_alloc)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, auto_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.parent.without_nest_parent")
@pytest.mark.parametrize("kind", ["plain", "dirty_tracking"])
def test_hwpt_without_nest_parent_is_no_parent(
    iommufd: Context,
    mock_device: MockDevice,
    hwpt_type: HwptType,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """A HWPT made without NEST_PARENT is no parent: EINVAL (iommufd_hwpt_nested_alloc)."""
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid())


@rule("hwpt_alloc.parent.pasid_only")
def test_hwpt_for_pasids_is_no_parent(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, hwpt_type: HwptType, alloc_pasid: int
) -> None:
    """A HWPT with ALLOC_PASID but without NEST_PARENT is no parent: EINVAL."""
    wrong = iommufd.hwpt_alloc(mock_device, ioas, flags=alloc_pasid)
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid())


@rule("hwpt_alloc.parent.nested")
def test_nested_hwpt_is_no_parent(
    iommufd: Context, mock_device: MockDevice, nested_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A user-managed HWPT is no parent: EINVAL (iommufd_hwpt_alloc)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, nested_hwpt, hwpt_type.valid())


@rule("hwpt_alloc.parent.nested.before_flags")
@pytest.mark.parametrize("flags", [1, 2, 1 << 31], ids=["nest_parent", "dirty_tracking", "bit_31"])
def test_nested_hwpt_is_no_parent_whatever_the_flags(
    iommufd: Context, mock_device: MockDevice, nested_hwpt: Hwpt, hwpt_type: HwptType, flags: int
) -> None:
    """A user-managed HWPT is refused by its type, before flags: EINVAL (iommufd_hwpt_alloc)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, nested_hwpt, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.parent.nested.before_data")
def test_nested_hwpt_is_no_parent_without_data_either(
    iommufd: Context, mock_device: MockDevice, nested_hwpt: Hwpt
) -> None:
    """A user-managed HWPT is refused by its type, before data: EINVAL (iommufd_hwpt_alloc)."""
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, nested_hwpt)


@rule("hwpt_alloc.parent.no_data")
@pytest.mark.parametrize("size", [24, 48])
def test_parent_without_data(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, size: int
) -> None:
    """A nested HWPT needs data: EOPNOTSUPP (iommufd_hwpt_nested_alloc)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, size=size)


@rule("hwpt_alloc.parent.no_data.before_parent")
@pytest.mark.parametrize("kind", NO_PARENT)
def test_no_parent_without_data(
    iommufd: Context, mock_device: MockDevice, kind: str, request: pytest.FixtureRequest
) -> None:
    """Missing data is found before the parent is looked at: EOPNOTSUPP, not EINVAL."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, request.getfixturevalue(NO_PARENT[kind]))


@rule("hwpt_alloc.parent.flags_before_parent")
@pytest.mark.parametrize("flags", [1, 2, 1 << 31], ids=["nest_parent", "dirty_tracking", "bit_31"])
@pytest.mark.parametrize("kind", NO_PARENT)
def test_no_parent_with_a_wrong_flag(
    iommufd: Context,
    mock_device: MockDevice,
    hwpt_type: HwptType,
    kind: str,
    flags: int,
    request: pytest.FixtureRequest,
) -> None:
    """A wrong flag is found before the parent is looked at: EOPNOTSUPP, not EINVAL."""
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.parent.before_memory")
@pytest.mark.parametrize("kind", NO_PARENT)
@pytest.mark.usefixtures("failing_slab")
def test_no_parent_is_found_before_anything_is_made(
    iommufd: Context,
    mock_device: MockDevice,
    hwpt_type: HwptType,
    kind: str,
    request: pytest.FixtureRequest,
) -> None:
    """The core refuses what is no parent before it allocates: EINVAL, not ENOMEM."""
    wrong = request.getfixturevalue(NO_PARENT[kind])
    with raises_errno(EINVAL):
        iommufd.hwpt_alloc(mock_device, wrong, hwpt_type.valid(), fail_nth=3)
