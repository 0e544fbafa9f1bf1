# SPDX-License-Identifier: GPL-2.0-only
"""What a HWPT holds and what holds it, and what a failed call leaves behind: nothing."""

from __future__ import annotations

from errno import EADDRINUSE, EFAULT, ENOENT
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import absent, raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import (
        Context,
        UserData,
    )
    from pytest_iommufd.uapi import Uapi

OUTSIDE = 0x1000


@pytest.fixture
def unwritable(
    iommufd: Context, uapi: Uapi, readonly: Callable[[bytes], int], type_field: str
) -> Callable[..., None]:
    """Makes the call with a struct that cannot be written."""

    def call(data: UserData | None = None, **fields: Any) -> None:
        if data:
            fields |= {type_field: data.type, "data_len": len(data.content)}
            fields["data_uptr"] = iommufd.put(data.content)
        size = uapi.sizeof("iommu_hwpt_alloc")
        plain = {name: value.__index__() for name, value in fields.items()}
        given = uapi.struct("iommu_hwpt_alloc", **({"size": size} | plain))
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given)))

    return call


@rule("hwpt_alloc.lifetime.parent")
def test_nested_hwpt_holds_its_parent(expected, nested_hwpt, parent_hwpt):
    with expected:
        parent_hwpt.destroy()
    nested_hwpt.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.lifetime.ioas")
@pytest.mark.parametrize("flags", [0, 1, 2], ids=["plain", "nest_parent", "dirty_tracking"])
def test_hwpt_holds_its_ioas(expected, iommufd, mock_device, other_ioas, dialect, flags):
    if flags and dialect != "mainline":
        absent("no flag can be given")
    made = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    with expected:
        other_ioas.destroy()
    made.destroy()
    other_ioas.destroy()


@rule("hwpt_alloc.lifetime.chain")
def test_chain_is_destroyed_from_its_end(
    expected, iommufd, mock_device, other_ioas, hwpt_type, parent_flags
):
    parent = iommufd.hwpt_alloc(mock_device, other_ioas, flags=parent_flags)
    nested = iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid())
    for held in (other_ioas, parent):
        with expected:
            held.destroy()
    for free in (nested, parent, other_ioas):
        free.destroy()


@rule("hwpt_alloc.lifetime.last_child")
def test_parent_is_held_by_each_child(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    children = [iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid()) for _ in range(3)]
    for child in children:
        with expected:
            parent_hwpt.destroy()
        child.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.lifetime.attached")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "nested_hwpt"])
def test_attached_device_holds_the_hwpt(expected, mock_device, ioas, kind, request):
    made = request.getfixturevalue(kind)
    mock_device.replace(made)
    with expected:
        made.destroy()
    mock_device.replace(ioas)
    made.destroy()


@rule("hwpt_alloc.lifetime.manual")
def test_detached_hwpt_stays(mock_device, ioas, hwpt):
    mock_device.replace(hwpt)
    mock_device.replace(ioas)
    hwpt.destroy()


@rule("hwpt_alloc.lifetime.device_gone")
def test_hwpt_outlives_its_device(iommufd, mock_devices, other_ioas, parent_hwpt, hwpt_type):
    device = mock_devices(other_ioas)
    made = iommufd.hwpt_alloc(device, parent_hwpt, hwpt_type.valid(iotlb=1))
    device.destroy()
    made.check_iotlb(0, 1)


@rule("hwpt_alloc.lifetime.id_reused")
def test_id_of_a_destroyed_hwpt_is_given_again(iommufd, mock_device, ioas, hwpt):
    hwpt.destroy()
    assert iommufd.hwpt_alloc(mock_device, ioas).id == hwpt.id


# ---- a failed call ----


@rule("hwpt_alloc.undone.unwritable_paging")
def test_hwpt_whose_id_cannot_be_told_is_undone(
    expected, unwritable, mock_device, other_ioas, buffer
):
    with expected:
        unwritable(dev_id=mock_device, pt_id=other_ioas)
    other_ioas.map(buffer, iova=OUTSIDE)  # no aperture is left either
    other_ioas.destroy()


@rule("hwpt_alloc.undone.unwritable_nested")
def test_nested_hwpt_whose_id_cannot_be_told_is_undone(
    expected, unwritable, mock_device, parent_hwpt, hwpt_type
):
    with expected:
        unwritable(hwpt_type.valid(), dev_id=mock_device, pt_id=parent_hwpt)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.unwritable_fault_queue")
def test_hwpt_whose_id_cannot_be_told_lets_go_of_its_queue(
    expected, unwritable, mock_device, parent_hwpt, hwpt_type, fault_queue, uapi
):
    with expected:
        unwritable(
            hwpt_type.valid(),
            dev_id=mock_device,
            pt_id=parent_hwpt,
            flags=uapi.IOMMU_HWPT_FAULT_ID_VALID,
            fault_id=fault_queue,
        )
    fault_queue.close()
    fault_queue.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.id_reused")
def test_id_that_could_not_be_told_is_given_again(unwritable, iommufd, mock_device, other_ioas):
    first = iommufd.hwpt_alloc(mock_device, other_ioas)
    first.destroy()
    with raises_errno(EFAULT):
        unwritable(dev_id=mock_device, pt_id=other_ioas)
    with raises_errno(ENOENT):
        first.destroy()
    assert iommufd.hwpt_alloc(mock_device, other_ioas).id == first.id


@rule("hwpt_alloc.undone.fault_id_nested")
def test_nested_hwpt_without_its_queue_is_undone(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, uapi
):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=flags, fault_id=9999)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.fault_id_paging")
def test_hwpt_without_its_queue_is_undone(expected, iommufd, mock_device, other_ioas, buffer, uapi):
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with expected:
        iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags, fault_id=9999)
    other_ioas.map(buffer, iova=OUTSIDE)  # no aperture is left either
    other_ioas.destroy()


@rule("hwpt_alloc.undone.data_type")
def test_nested_hwpt_of_an_unknown_type_is_undone(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type
):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_type=1)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.data_length")
def test_nested_hwpt_of_short_data_is_undone(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type
):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_len=1)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.data_pointer")
def test_nested_hwpt_of_unreadable_data_is_undone(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type
):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_uptr=1)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.area")
@pytest.mark.parametrize(
    ("state", "number"),
    [
        ("ioas_outside_aperture", EADDRINUSE),
        ("ioas_unaligned", EADDRINUSE),
        ("ioas_unpinnable", EFAULT),
    ],
    ids=["outside_aperture", "unaligned", "unpinnable"],
)
def test_hwpt_that_cannot_take_the_areas_is_undone(
    iommufd, mock_device, buffer, state, number, request
):
    target = request.getfixturevalue(state)
    with raises_errno(number):
        iommufd.hwpt_alloc(mock_device, target)
    target.map(buffer, iova=0x1000_0000_0000)
    target.destroy()
