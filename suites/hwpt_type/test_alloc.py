# SPDX-License-Identifier: GPL-2.0-only
"""What a HWPT of the type is made from, and with which flags."""

from __future__ import annotations

from errno import EBUSY

import pytest

from pytest_iommufd import raises_errno
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import of_each

UNKNOWN = 9999
REFUSED_FLAGS = ["NEST_PARENT", "DIRTY_TRACKING"]


@of_each("alloc.valid")
@pytest.mark.fail_nth
def test_valid(alloc, data, check_reached):
    check_reached(alloc(), data.valid().content)


@of_each("alloc.several")
def test_several_from_one_parent(alloc, data, check_reached):
    made = [alloc() for _ in range(3)]
    assert len({hwpt.id for hwpt in made}) == 3
    for hwpt in made:
        check_reached(hwpt, data.valid().content)


@of_each("alloc.viommu", "viommu")
def test_from_a_viommu(alloc, type_viommu, data, check_reached):
    check_reached(alloc(pt=type_viommu), data.valid().content)


@of_each("alloc.parent_hwpt")
def test_from_a_parent_hwpt(expected, declared, alloc, stage2):
    with expected.as_declared("EOPNOTSUPP" if declared.of_viommu_only else "OK"):
        alloc(pt=stage2)


@of_each("alloc.fault_queue")
def test_with_a_fault_queue(alloc, fault_queue, uapi):
    hwpt = alloc(flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=fault_queue)
    fault_queue.close()  # the file holds the queue, too
    with raises_errno(EBUSY):
        fault_queue.destroy()
    hwpt.destroy()
    fault_queue.destroy()


@of_each("alloc.fault_queue.unknown")
def test_with_an_unknown_fault_queue(expected, alloc, uapi):
    with expected:
        alloc(flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=UNKNOWN)


@of_each("alloc.fault_queue.viommu", "viommu")
def test_of_a_viommu_with_a_fault_queue(alloc, type_viommu, fault_queue, uapi):
    alloc(pt=type_viommu, flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=fault_queue)


@of_each("alloc.flag.pasid")
def test_pasid(expected, declared, alloc, uapi):
    takes = "IOMMU_HWPT_ALLOC_PASID" in declared.flags
    with expected.as_declared("OK" if takes else "EOPNOTSUPP"):
        alloc(flags=uapi.IOMMU_HWPT_ALLOC_PASID)


@of_each("alloc.flag.refused")
@pytest.mark.parametrize("flag", REFUSED_FLAGS)
def test_flag_for_what_is_not_nested(expected, alloc, uapi, flag):
    with expected:
        alloc(flags=getattr(uapi, f"IOMMU_HWPT_ALLOC_{flag}"))


@of_each("alloc.flag.refused.viommu", "viommu")
@pytest.mark.parametrize("flag", REFUSED_FLAGS)
def test_flag_for_what_is_not_nested_with_a_viommu(expected, alloc, type_viommu, uapi, flag):
    with expected:
        alloc(pt=type_viommu, flags=getattr(uapi, f"IOMMU_HWPT_ALLOC_{flag}"))


@of_each("alloc.flag.unknown")
def test_flag_that_nobody_knows(expected, alloc, uapi):
    for flag in spare_flags(uapi, "iommu_hwpt_alloc.flags"):
        with expected:
            alloc(flags=flag)


@of_each("alloc.pt.ioas", "not_of_ioas")
def test_from_an_ioas(expected, declared, iommufd, device, ioas, data):
    with expected.as_declared(declared.of_ioas):
        iommufd.hwpt_alloc(device, ioas, data.valid())


@of_each("alloc.pt.no_parent")
def test_from_a_hwpt_that_is_no_parent(expected, declared, iommufd, device, ioas, data):
    plain = iommufd.hwpt_alloc(device, ioas)
    with expected.as_declared("EOPNOTSUPP" if declared.of_viommu_only else "EINVAL"):
        iommufd.hwpt_alloc(device, plain, data.valid())


@of_each("alloc.pt.nested")
def test_from_a_nested_hwpt(expected, alloc, nested):
    with expected:
        alloc(pt=nested)


@of_each("alloc.pt.other_objects")
def test_from_what_is_no_page_table(expected, iommufd, device, data, fault_queue):
    for pt in (device, fault_queue):
        with expected:
            iommufd.hwpt_alloc(device, pt, data.valid())


@of_each("alloc.pt.unknown")
@pytest.mark.parametrize("pt", [0, UNKNOWN, 0xFFFF_FFFF])
def test_from_what_is_not_there(expected, iommufd, device, data, pt):
    with expected:
        iommufd.hwpt_alloc(device, pt, data.valid())


@of_each("alloc.pt.destroyed")
def test_from_a_parent_that_is_gone(expected, iommufd, alloc, parent):
    iommufd.destroy(parent)
    with expected:
        alloc()


@of_each("alloc.dev.unknown")
def test_for_a_device_that_is_not_there(expected, iommufd, parent, data):
    for device in (0, UNKNOWN):
        with expected:
            iommufd.hwpt_alloc(device, parent, data.valid())


@of_each("alloc.reserved")
def test_reserved_field_of_the_ioctl(expected, alloc):
    with expected:
        alloc(__reserved=1)
