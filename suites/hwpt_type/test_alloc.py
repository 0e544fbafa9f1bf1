# SPDX-License-Identifier: GPL-2.0-only
"""What a HWPT of the type is made from, and with which flags."""

from __future__ import annotations

from errno import EBUSY
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import absent, raises_errno

from .conftest import of_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.hwpt_types import HwptType
    from pytest_iommufd.iommufd import Context, FaultQueue, Hwpt, HwptData, Ioas, Viommu
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999
REFUSED_FLAGS = ["NEST_PARENT", "DIRTY_TRACKING"]
UNKNOWN_BITS = range(4, 32)


@of_each("alloc.valid")
@pytest.mark.fail_nth
def test_valid(
    alloc: Callable[..., Hwpt], data: HwptData, check_reached: Callable[[Hwpt, bytes], None]
) -> None:
    check_reached(alloc(), data.valid().content)


@of_each("alloc.several")
def test_several_from_one_parent(
    alloc: Callable[..., Hwpt], data: HwptData, check_reached: Callable[[Hwpt, bytes], None]
) -> None:
    made = [alloc() for _ in range(3)]
    assert len({hwpt.id for hwpt in made}) == 3
    for hwpt in made:
        check_reached(hwpt, data.valid().content)


@of_each("alloc.viommu", "viommu")
def test_from_a_viommu(
    alloc: Callable[..., Hwpt],
    type_viommu: Viommu,
    data: HwptData,
    check_reached: Callable[[Hwpt, bytes], None],
) -> None:
    check_reached(alloc(pt=type_viommu), data.valid().content)


@of_each("alloc.parent_hwpt")
def test_from_a_parent_hwpt(
    expected: Expectation, declared: HwptType, alloc: Callable[..., Hwpt], stage2: Hwpt
) -> None:
    with expected.as_declared("EOPNOTSUPP" if declared.of_viommu_only else "OK"):
        alloc(pt=stage2)


@of_each("alloc.fault_queue")
def test_with_a_fault_queue(
    alloc: Callable[..., Hwpt], fault_queue: FaultQueue, uapi: Uapi
) -> None:
    hwpt = alloc(flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=fault_queue)
    fault_queue.close()  # the file holds the queue, too
    with raises_errno(EBUSY):
        fault_queue.destroy()
    hwpt.destroy()
    fault_queue.destroy()


@of_each("alloc.fault_queue.unknown")
def test_with_an_unknown_fault_queue(
    expected: Expectation, alloc: Callable[..., Hwpt], uapi: Uapi
) -> None:
    with expected:
        alloc(flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=UNKNOWN)


@of_each("alloc.fault_queue.viommu", "viommu")
def test_of_a_viommu_with_a_fault_queue(
    alloc: Callable[..., Hwpt], type_viommu: Viommu, fault_queue: FaultQueue, uapi: Uapi
) -> None:
    alloc(pt=type_viommu, flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=fault_queue)


@of_each("alloc.flag.pasid")
def test_pasid(
    expected: Expectation, declared: HwptType, alloc: Callable[..., Hwpt], uapi: Uapi
) -> None:
    if not uapi.has("IOMMU_HWPT_ALLOC_PASID"):
        absent("the kernel's header does not define IOMMU_HWPT_ALLOC_PASID")
    takes = "IOMMU_HWPT_ALLOC_PASID" in declared.flags
    with expected.as_declared("OK" if takes else "EOPNOTSUPP"):
        alloc(flags=uapi.IOMMU_HWPT_ALLOC_PASID)


@of_each("alloc.flag.refused")
@pytest.mark.parametrize("flag", REFUSED_FLAGS)
def test_flag_for_what_is_not_nested(
    expected: Expectation, alloc: Callable[..., Hwpt], uapi: Uapi, flag: str
) -> None:
    with expected:
        alloc(flags=getattr(uapi, f"IOMMU_HWPT_ALLOC_{flag}"))


@of_each("alloc.flag.refused.viommu", "viommu")
@pytest.mark.parametrize("flag", REFUSED_FLAGS)
def test_flag_for_what_is_not_nested_with_a_viommu(
    expected: Expectation, alloc: Callable[..., Hwpt], type_viommu: Viommu, uapi: Uapi, flag: str
) -> None:
    with expected:
        alloc(pt=type_viommu, flags=getattr(uapi, f"IOMMU_HWPT_ALLOC_{flag}"))


@of_each("alloc.flag.unknown")
def test_flag_that_nobody_knows(expected: Expectation, alloc: Callable[..., Hwpt]) -> None:
    for bit in UNKNOWN_BITS:
        with expected:
            alloc(flags=1 << bit)


@of_each("alloc.pt.ioas", "not_of_ioas")
def test_from_an_ioas(
    expected: Expectation,
    declared: HwptType,
    iommufd: Context,
    device: Any,
    ioas: Ioas,
    data: HwptData,
) -> None:
    with expected.as_declared(declared.of_ioas):
        iommufd.hwpt_alloc(device, ioas, data.valid())


@of_each("alloc.pt.no_parent")
def test_from_a_hwpt_that_is_no_parent(
    expected: Expectation,
    declared: HwptType,
    iommufd: Context,
    device: Any,
    ioas: Ioas,
    data: HwptData,
) -> None:
    plain = iommufd.hwpt_alloc(device, ioas)
    with expected.as_declared("EOPNOTSUPP" if declared.of_viommu_only else "EINVAL"):
        iommufd.hwpt_alloc(device, plain, data.valid())


@of_each("alloc.pt.nested")
def test_from_a_nested_hwpt(
    expected: Expectation, alloc: Callable[..., Hwpt], nested: Hwpt
) -> None:
    with expected:
        alloc(pt=nested)


@of_each("alloc.pt.other_objects")
def test_from_what_is_no_page_table(
    expected: Expectation,
    iommufd: Context,
    device: Any,
    data: HwptData,
    fault_queue: FaultQueue,
) -> None:
    for pt in (device, fault_queue):
        with expected:
            iommufd.hwpt_alloc(device, pt, data.valid())


@of_each("alloc.pt.unknown")
@pytest.mark.parametrize("pt", [0, UNKNOWN, 0xFFFF_FFFF])
def test_from_what_is_not_there(
    expected: Expectation, iommufd: Context, device: Any, data: HwptData, pt: int
) -> None:
    with expected:
        iommufd.hwpt_alloc(device, pt, data.valid())


@of_each("alloc.pt.destroyed")
def test_from_a_parent_that_is_gone(
    expected: Expectation, iommufd: Context, alloc: Callable[..., Hwpt], parent: Any
) -> None:
    iommufd.destroy(parent)
    with expected:
        alloc()


@of_each("alloc.dev.unknown")
def test_for_a_device_that_is_not_there(
    expected: Expectation, iommufd: Context, parent: Any, data: HwptData
) -> None:
    for device in (0, UNKNOWN):
        with expected:
            iommufd.hwpt_alloc(device, parent, data.valid())


@of_each("alloc.reserved")
def test_reserved_field_of_the_ioctl(expected: Expectation, alloc: Callable[..., Hwpt]) -> None:
    with expected:
        alloc(__reserved=1)
