# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a vIOMMU, and what holds it."""

from __future__ import annotations

from errno import EFAULT, ENOENT
from typing import Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.uapi.spare import spare_flags

UNKNOWN = [0, 9999, 0x7FFF_FFFF, 0xFFFF_FFFF]
NO_DEVICES = ["ioas", "parent_hwpt", "selftest_object", "fault_queue", "viommu", "vdevice"]
NO_PAGING_HWPTS = ["ioas", "nested_hwpt", "viommu_hwpt", "viommu", "mock_device", "fault_queue"]
BEYOND = 1 << 31


@rule("viommu.size.below_minimum")
def test_size_below_the_minimum(expected, alloc):
    for size in [0, 4, 20, 23]:
        with expected:
            alloc(size=size)


@rule("viommu.size.first_version")
def test_size_without_data(alloc, parent_hwpt):
    for size in [24, 28, 32, 39, 40]:
        alloc(size=size).destroy()
    parent_hwpt.destroy()


@rule("viommu.size.cuts_data_uptr")
def test_size_without_the_pointer(expected, alloc):
    with expected:
        alloc(size=32, data_len=8, data_uptr=bytes(8))


@rule("viommu.size.tail_zero")
def test_tail_of_zeroes(alloc, iommufd):
    with iommufd.sending(tail=bytes(8)):
        alloc().destroy()


@rule("viommu.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, alloc, iommufd):
    with expected, iommufd.sending(tail=b"\0\0\0\1"):
        alloc()


@rule("viommu.flags")
def test_flag(expected, alloc, iommufd):
    flags = spare_flags(iommufd.uapi, "iommu_viommu_alloc.flags")
    for flag in [flags[0], flags[1], flags[-1]]:
        with expected:
            alloc(flags=flag)


@rule("viommu.flags.first")
def test_flag_is_looked_at_first(expected, alloc, uapi):
    flag = spare_flags(uapi, "iommu_viommu_alloc.flags")[0]
    with expected:
        alloc(flags=flag, device=0, parent=0)


@rule("viommu.type.default")
def test_type_zero(expected, alloc):
    with expected:
        alloc(type=0)


@rule("viommu.type.default.first")
def test_type_zero_is_looked_at_first(expected, alloc):
    with expected:
        alloc(type=0, device=0, parent=0)


@rule("viommu.type.unknown")
def test_type_that_the_driver_has_not(expected, alloc):
    for number in [1, 2, 3, 0xDEAD, 0xFFFF_FFFF]:
        with expected:
            alloc(type=number)


@rule("viommu.type.before_hwpt_id")
def test_type_is_looked_at_before_the_parent(expected, alloc):
    with expected:
        alloc(type=1, parent=0)


@rule("viommu.reserved")
def test_reserved_is_ignored(expected, alloc):
    with expected:
        alloc(__reserved=0xFFFF_FFFF)


@rule("viommu.dev_id.names_nothing")
def test_dev_id_names_nothing(expected, alloc):
    for number in UNKNOWN:
        with expected:
            alloc(device=number)


@rule("viommu.dev_id.other_type")
def test_dev_id_of_another_type(expected, alloc, request):
    for kind in NO_DEVICES:
        wrong = request.getfixturevalue(kind)
        with expected:
            alloc(device=wrong)


@rule("viommu.dev_id.destroyed")
def test_dev_id_of_a_destroyed_device(expected, alloc, other_device):
    other_device.destroy()
    with expected:
        alloc(device=other_device)


@rule("viommu.dev_id.before_type")
def test_dev_id_is_looked_at_before_the_type(expected, alloc):
    with expected:
        alloc(device=0, type=1)


@rule("viommu.hwpt_id.names_nothing")
def test_hwpt_id_names_nothing(expected, alloc):
    for number in UNKNOWN:
        with expected:
            alloc(parent=number)


@rule("viommu.hwpt_id.other_type")
def test_hwpt_id_of_another_type(expected, alloc, request):
    for kind in NO_PAGING_HWPTS:
        wrong = request.getfixturevalue(kind)
        with expected:
            alloc(parent=wrong)


@rule("viommu.hwpt_id.destroyed")
def test_hwpt_id_of_a_destroyed_hwpt(expected, alloc, parent_hwpt):
    parent_hwpt.destroy()
    with expected:
        alloc()


@rule("viommu.hwpt_id.no_parent")
def test_hwpt_without_nest_parent(expected, alloc, request):
    for kind in ["hwpt", "auto_hwpt"]:
        wrong = request.getfixturevalue(kind)
        with expected:
            alloc(parent=wrong)


@rule("viommu.hwpt_id.no_parent.before_data")
def test_hwpt_without_nest_parent_is_told_before_the_data(expected, alloc, hwpt, unmapped):
    with expected:
        alloc(parent=hwpt, data_len=24, data_uptr=unmapped)
    hwpt.destroy()


@rule("viommu.hwpt_id.of_another_device")
def test_parent_may_be_of_another_device(alloc, other_device):
    alloc(device=other_device).destroy()


@rule("viommu.several")
def test_several_on_a_parent(alloc, parent_hwpt):
    made = [alloc() for _ in range(3)]
    assert len({one.id for one in made}) == 3
    for one in made:
        one.destroy()
    parent_hwpt.destroy()


# ---- a failed call ----


@rule("viommu.undone.unwritable")
def test_id_cannot_be_told(expected, unwritable, iommufd, uapi, mock_device, parent_hwpt):
    for length in [0, 24]:
        with expected:
            unwritable(
                "IOMMU_VIOMMU_ALLOC",
                type=uapi.IOMMU_VIOMMU_TYPE_SELFTEST,
                dev_id=mock_device,
                hwpt_id=parent_hwpt,
                data_len=length,
                data_uptr=iommufd.put(bytes(24)),
            )
    parent_hwpt.destroy()


@rule("viommu.undone.id_reused")
def test_id_of_a_failed_call_is_given_again(alloc, unmapped):
    first = alloc()
    first.destroy()
    with raises_errno(EFAULT):
        alloc(data_len=24, data_uptr=unmapped)
    with raises_errno(ENOENT):
        first.destroy()
    assert alloc().id == first.id


@rule("viommu.failure.lookup")
def test_lookup_fails(expected, alloc, iommufd, parent_hwpt):
    for nth in [1, 2]:
        with expected, iommufd.sending(fail_nth=nth):
            alloc()
    parent_hwpt.destroy()


@rule("viommu.failure.memory")
def test_no_memory(expected, alloc, iommufd, parent_hwpt):
    for length in [0, 24]:
        with expected, iommufd.sending(fail_nth=3):
            alloc(data_len=length, data_uptr=bytes(24))
    parent_hwpt.destroy()


# ---- what holds what ----


@rule("viommu.lifetime.parent")
def test_viommu_holds_its_parent(expected, viommu, parent_hwpt):
    with expected:
        parent_hwpt.destroy()
    viommu.destroy()
    parent_hwpt.destroy()


@rule("viommu.lifetime.last")
def test_parent_is_held_by_each(expected, alloc, parent_hwpt):
    first, second = alloc(), alloc()
    first.destroy()
    with expected:
        parent_hwpt.destroy()
    second.destroy()
    parent_hwpt.destroy()


@rule("viommu.lifetime.children")
@pytest.mark.parametrize("kind", ["viommu_hwpt", "vdevice", "veventq", "hw_queue"])
def test_viommu_is_held_by_what_is_made_of_it(expected, viommu, kind, request):
    child = request.getfixturevalue(kind)
    with expected:
        viommu.destroy()
    if kind == "veventq":
        child.close()
    child.destroy()
    viommu.destroy()


@rule("viommu.lifetime.device_gone")
def test_viommu_outlives_its_device(alloc, other_device, parent_hwpt):
    made = alloc(device=other_device)
    other_device.destroy()
    made.destroy()
    parent_hwpt.destroy()


@rule("viommu.lifetime.context")
def test_context_may_be_closed_with_all_of_it(iommufd, request, fault_queue, ioas):
    made: list[Any] = [
        request.getfixturevalue(kind)
        for kind in ("viommu_hwpt", "vdevice", "veventq", "hw_queue", "nested_hwpt")
    ]
    assert len({one.id for one in (*made, fault_queue, ioas)}) == len(made) + 2
    iommufd.close()
