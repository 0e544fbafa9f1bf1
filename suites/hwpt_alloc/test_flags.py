# SPDX-License-Identifier: GPL-2.0-only
"""Flags: each bit, with each kind of pt_id."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import absent, rule
from pytest_iommufd.uapi.spare import spare_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, HwptData, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

# The flags' names by bit; a bit that the tested kernel's header does not name must be rejected.
NAMES = {
    0: "IOMMU_HWPT_ALLOC_NEST_PARENT",
    1: "IOMMU_HWPT_ALLOC_DIRTY_TRACKING",
    2: "IOMMU_HWPT_FAULT_ID_VALID",
    3: "IOMMU_HWPT_ALLOC_PASID",
}
UNKNOWN_BITS = [3, 4, 16, 31]
PASID_COMBINATIONS = [
    names for count in (1, 2) for names in combinations([NAMES[0], NAMES[1]], count)
]


@pytest.fixture(params=UNKNOWN_BITS, ids=[f"bit_{bit}" for bit in UNKNOWN_BITS])
def unknown_flag(request: pytest.FixtureRequest, uapi: Uapi) -> int:
    """A flag that the header does not define."""
    flag = 1 << int(request.param)
    if flag not in spare_flags(uapi, "iommu_hwpt_alloc.flags"):
        absent(f"the header defines bit {request.param}")
    return flag


@rule("hwpt_alloc.flags.unknown")
def test_unknown_flag(expected, iommufd, mock_device, ioas, unknown_flag):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, flags=unknown_flag)


@rule("hwpt_alloc.flags.unknown_with_known")
@pytest.mark.parametrize("known", [NAMES[0], NAMES[1]])
def test_unknown_flag_with_a_known_one(expected, iommufd, mock_device, ioas, uapi, known):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, flags=getattr(uapi, known) | 1 << 31)


@rule("hwpt_alloc.flags.all_ones")
def test_all_flags(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, flags=0xFFFF_FFFF)


@rule("hwpt_alloc.flags.unknown_before_memory")
def test_unknown_flag_is_found_before_anything_is_made(expected, iommufd, mock_device, ioas):
    with expected, iommufd.sending(fail_nth=3):
        iommufd.hwpt_alloc(mock_device, ioas, flags=1 << 31)


@rule("hwpt_alloc.flags.fault_id_valid")
def test_fault_id_valid_without_a_queue(expected, iommufd, mock_device, ioas, uapi):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_FAULT_ID_VALID)


@rule("hwpt_alloc.flags.nested.fault_id_valid")
def test_fault_id_valid_without_a_queue_with_a_parent(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, uapi
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.flags.nested.unknown")
def test_unknown_flag_of_a_nested(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, unknown_flag
):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=unknown_flag)


@rule("hwpt_alloc.flags.nested.paging_only")
@pytest.mark.parametrize("name", [NAMES[0], NAMES[1]])
def test_paging_flag_of_a_nested(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, uapi, name
):
    flags = getattr(uapi, name)
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=flags)


@rule("hwpt_alloc.flags.nested.all_ones")
def test_all_flags_of_a_nested(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=0xFFFF_FFFF)


@rule("hwpt_alloc.flags.dirty_unsupported")
@pytest.mark.parametrize("parent", [False, True], ids=["alone", "with_nest_parent"])
def test_dirty_tracking_without_support(expected, iommufd, no_dirty_device, ioas, uapi, parent):
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    flags |= uapi.IOMMU_HWPT_ALLOC_NEST_PARENT if parent else 0
    with expected:
        iommufd.hwpt_alloc(no_dirty_device, ioas, flags=flags)


@rule("hwpt_alloc.flags.dirty_unsupported_before_memory")
def test_dirty_tracking_without_support_is_found_before_anything_is_made(
    expected, iommufd, no_dirty_device, ioas, uapi
):
    flags = uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    with expected, iommufd.sending(fail_nth=3):
        iommufd.hwpt_alloc(no_dirty_device, ioas, flags=flags)


@rule("hwpt_alloc.flags.parent_with_fault_id")
@pytest.mark.parametrize("dirty", [False, True], ids=["alone", "with_dirty_tracking"])
def test_parent_has_no_fault_queue(expected, iommufd, mock_device, ioas, fault_queue, uapi, dirty):
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_FAULT_ID_VALID
    flags |= uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING if dirty else 0
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, flags=flags, fault_id=fault_queue)


# ---- IOMMU_HWPT_ALLOC_PASID ----


@pytest.fixture
def pasid_device(mock_devices: Callable[..., MockDevice], other_ioas: Ioas) -> MockDevice:
    """A mock device with PASIDs."""
    return mock_devices(other_ioas, pasid=True)


@rule("hwpt_alloc.pasid.paging")
@pytest.mark.parametrize("names", [(), *PASID_COMBINATIONS], ids=["alone", "nest", "dirty", "both"])
def test_pasid_flag(iommufd, mock_device, ioas, uapi, names):
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | sum(getattr(uapi, name) for name in names)
    iommufd.hwpt_alloc(mock_device, ioas, flags=flags).destroy()


@rule("hwpt_alloc.pasid.with_fault_id")
def test_pasid_flag_with_a_fault_queue(iommufd, mock_device, ioas, fault_queue, uapi):
    flags = uapi.IOMMU_HWPT_ALLOC_PASID | uapi.IOMMU_HWPT_FAULT_ID_VALID
    flags |= uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    iommufd.hwpt_alloc(mock_device, ioas, flags=flags, fault_id=fault_queue).destroy()


@rule("hwpt_alloc.pasid.nested")
def test_pasid_flag_of_a_nested(iommufd, mock_device, parent_hwpt, hwpt_type, uapi):
    data, flags = hwpt_type.valid(iotlb=8), uapi.IOMMU_HWPT_ALLOC_PASID
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, flags=flags).check_iotlb(0, 8)


@pytest.fixture(params=["paging", "nested", "viommu"])
def source(
    request: pytest.FixtureRequest,
    iommufd: Context,
    pasid_device: MockDevice,
    ioas: Ioas,
    hwpt_type: HwptData,
    uapi: Uapi,
) -> tuple[Any, ...]:
    """The pt_id and data of a HWPT of each kind, for the device with PASIDs."""
    if request.param == "paging":
        return (ioas,)
    parent = iommufd.hwpt_alloc(pasid_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    if request.param == "nested":
        return parent, hwpt_type.valid()
    return iommufd.viommu_alloc(pasid_device, parent), hwpt_type.valid()


@rule("hwpt_alloc.pasid.attach")
def test_pasid_flag_allows_attaching_to_a_pasid(
    expected, iommufd, pasid_device, ioas, source, uapi
):
    device, flags = pasid_device.selftest, uapi.IOMMU_HWPT_ALLOC_PASID
    pasid_device.replace(iommufd.hwpt_alloc(pasid_device, ioas, flags=flags))
    without = iommufd.hwpt_alloc(pasid_device, *source)
    with expected:
        iommufd.test("pasid_attach", device, pasid_attach={"pasid": 7, "pt_id": without.id})
    given = iommufd.hwpt_alloc(pasid_device, *source, flags=flags)
    iommufd.test("pasid_attach", device, pasid_attach={"pasid": 7, "pt_id": given.id})
    iommufd.test("pasid_detach", device, pasid_detach={"pasid": 7})
