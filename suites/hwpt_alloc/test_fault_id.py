# SPDX-License-Identifier: GPL-2.0-only
"""Fault queues: which are found, and that the HWPT uses and holds its queue."""

from __future__ import annotations

from errno import EBUSY, ENODEV
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import IoctlError, absent, raises_errno, rule
from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.eventfile import EventFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, HwptData, Ioas, MockDevice
    from pytest_iommufd.uapi import Uapi

NOTHING = {"zero": 0, "never_used": 9999, "all_ones": 0xFFFF_FFFF}
# Fixtures by the kind of what is no fault queue; the suite `generic` has all.
OBJECTS = ["ioas", "parent_hwpt", "mock_device"]


@pytest.fixture
def alloc_nested(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptData, uapi: Uapi
) -> Callable[..., Hwpt]:
    """Makes a nested HWPT with FAULT_ID_VALID and a fault_id."""

    def make(fault_id: Any, **fields: Any) -> Hwpt:
        given = {"flags": uapi.IOMMU_HWPT_FAULT_ID_VALID, "fault_id": fault_id}
        return iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), **(given | fields))

    return make


@pytest.fixture
def alloc_paging(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, uapi: Uapi
) -> Callable[..., Hwpt]:
    """Makes a HWPT of an IOAS with FAULT_ID_VALID and a fault_id."""

    def make(fault_id: Any, **fields: Any) -> Hwpt:
        given = {"flags": uapi.IOMMU_HWPT_FAULT_ID_VALID, "fault_id": fault_id}
        return iommufd.hwpt_alloc(mock_device, other_ioas, **(given | fields))

    return make


@rule("hwpt_alloc.fault_id.nested")
def test_nested_hwpt_with_a_fault_queue(expected, alloc_nested, fault_queue, hwpt_type):
    made = alloc_nested(fault_queue)
    made.check_iotlb(0, hwpt_type.sample["iotlb"])
    fault_queue.close()  # the file holds it too
    with expected:
        fault_queue.destroy()
    made.destroy()
    fault_queue.destroy()


@rule("hwpt_alloc.fault_id.nested.names_nothing")
@pytest.mark.parametrize("number", NOTHING.values(), ids=NOTHING)
def test_fault_id_names_nothing(expected, alloc_nested, number):
    with expected:
        alloc_nested(number)


@rule("hwpt_alloc.fault_id.nested.names_nothing")
def test_fault_id_of_a_destroyed_queue(expected, alloc_nested, destroyed_queue):
    with expected:
        alloc_nested(destroyed_queue)


@rule("hwpt_alloc.fault_id.nested.other_type")
@pytest.mark.parametrize("kind", OBJECTS)
def test_fault_id_of_another_type(expected, alloc_nested, kind, request):
    wrong = request.getfixturevalue(kind)
    with expected:
        alloc_nested(wrong)


@rule("hwpt_alloc.fault_id.paging")
def test_hwpt_of_an_ioas_with_a_fault_queue(expected, alloc_paging, fault_queue):
    with expected:
        made = alloc_paging(fault_queue)
    if expected.ok:
        fault_queue.close()
        with raises_errno(EBUSY):
            fault_queue.destroy()
        made.destroy()
        fault_queue.destroy()


@rule("hwpt_alloc.fault_id.paging.names_nothing")
@pytest.mark.parametrize("number", NOTHING.values(), ids=NOTHING)
def test_fault_id_names_nothing_with_an_ioas(expected, alloc_paging, number):
    with expected:
        alloc_paging(number)


@rule("hwpt_alloc.fault_id.paging.names_nothing")
def test_fault_id_of_a_destroyed_queue_with_an_ioas(expected, alloc_paging, destroyed_queue):
    with expected:
        alloc_paging(destroyed_queue)


@rule("hwpt_alloc.fault_id.paging.other_type")
@pytest.mark.parametrize("kind", OBJECTS)
def test_fault_id_of_another_type_with_an_ioas(expected, alloc_paging, kind, request):
    wrong = request.getfixturevalue(kind)
    with expected:
        alloc_paging(wrong)


@rule("hwpt_alloc.fault_id.paging.cut_off")
@pytest.mark.parametrize("size", [24, 40])
def test_fault_id_is_cut_off_with_an_ioas(expected, alloc_paging, fault_queue, size):
    with expected:
        alloc_paging(fault_queue, size=size)


@rule("hwpt_alloc.fault_id.closed")
def test_closed_fault_queue_is_still_one(expected, alloc_nested, fault_queue):
    fault_queue.close()
    made = alloc_nested(fault_queue)
    with expected:
        fault_queue.destroy()
    made.destroy()
    fault_queue.destroy()


@rule("hwpt_alloc.fault_id.shared")
def test_fault_queue_may_be_shared(expected, alloc_nested, fault_queue):
    first, second = alloc_nested(fault_queue), alloc_nested(fault_queue)
    first.destroy()
    fault_queue.close()
    with expected:
        fault_queue.destroy()
    second.destroy()
    fault_queue.destroy()


@rule("hwpt_alloc.fault_id.not_held_without_flag")
def test_fault_queue_is_not_held_without_the_flag(iommufd, mock_device, ioas, fault_queue):
    iommufd.hwpt_alloc(mock_device, ioas, fault_id=fault_queue)
    fault_queue.close()
    fault_queue.destroy()


@rule("hwpt_alloc.fault_id.gets_faults")
@pytest.mark.no_fail_nth("a fault that there is no memory for is lost, and the call succeeds")
@pytest.mark.parametrize("kind", ["nested", "paging"])
def test_fault_queue_gets_the_faults(iommufd, uapi, mock_device, ioas, fault_queue, kind, request):
    if kind == "paging" and not request.getfixturevalue("paging_takes_fault_id"):
        absent("a HWPT of an IOAS can have no fault queue")
    made = request.getfixturevalue(f"alloc_{kind}")(fault_queue)
    try:
        mock_device.replace(made)
    except IoctlError as error:
        if error.errno == ENODEV:
            absent("no HWPT with a fault queue can be attached (ENODEV): no CONFIG_IOMMU_IOPF")
        raise
    fault = {"dev_id": mock_device.id, "grpid": 0x66, "perm": 1, "addr": 0xDEAD_B000}
    iommufd.test("trigger_iopf", trigger_iopf=fault)
    process = iommufd.process
    size = uapi.sizeof("iommu_hwpt_pgfault")
    assert process.checked("read", fault_queue.fd, process.arena, size) == size
    got = uapi.struct("iommu_hwpt_pgfault").load(process.read(process.arena, size))
    assert (got.dev_id, got.grpid, got.addr) == (mock_device.id, 0x66, 0xDEAD_B000)
    EventFile(fault_queue).write(pack("<II", got.cookie, 0))
    mock_device.replace(ioas)
