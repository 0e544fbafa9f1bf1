# SPDX-License-Identifier: GPL-2.0-only
"""What a HWPT holds and what holds it, and what a failed call leaves behind: nothing."""

from __future__ import annotations

from errno import EADDRINUSE, EBUSY, EFAULT, EINVAL, ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import (
        Buffer,
        Context,
        FaultQueue,
        Hwpt,
        HwptType,
        Ioas,
        MockDevice,
    )
    from pytest_iommufd.uapi import Uapi

OUTSIDE = 0x1000


@pytest.fixture
def unwritable(
    iommufd: Context, uapi: Uapi, readonly: Callable[[bytes], int]
) -> Callable[..., None]:
    """Makes the call with a struct that cannot be written, and expects EFAULT of it."""

    def call(data: bytes = b"", **fields: Any) -> None:
        if data:
            fields |= {"data_len": len(data), "data_uptr": iommufd.put(data)}
        size = uapi.sizeof("iommu_hwpt_alloc")
        plain = {name: value.__index__() for name, value in fields.items()}
        given = uapi.struct("iommu_hwpt_alloc", **({"size": size} | plain))
        with raises_errno(EFAULT):
            iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given)))

    return call


@rule("hwpt_alloc.lifetime.parent")
def test_nested_hwpt_holds_its_parent(nested_hwpt: Hwpt, parent_hwpt: Hwpt) -> None:
    """A parent is EBUSY while a nested HWPT of it lives (iommufd_hwpt_nested_alloc)."""
    with raises_errno(EBUSY):
        parent_hwpt.destroy()
    nested_hwpt.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.lifetime.ioas")
@pytest.mark.parametrize("flags", [0, 1, 2], ids=["plain", "nest_parent", "dirty_tracking"])
def test_hwpt_holds_its_ioas(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, flags: int
) -> None:
    """An IOAS is EBUSY while a HWPT of it lives (iommufd_hwpt_paging_alloc)."""
    made = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    with raises_errno(EBUSY):
        other_ioas.destroy()
    made.destroy()
    other_ioas.destroy()


@rule("hwpt_alloc.lifetime.chain")
def test_chain_is_destroyed_from_its_end(
    iommufd: Context, mock_device: MockDevice, other_ioas: Ioas, hwpt_type: HwptType, uapi: Uapi
) -> None:
    """Nested HWPT, parent, IOAS can be destroyed in this order only."""
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT
    parent = iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags)
    nested = iommufd.hwpt_alloc(mock_device, parent, hwpt_type.valid())
    for held in (other_ioas, parent):
        with raises_errno(EBUSY):
            held.destroy()
    for free in (nested, parent, other_ioas):
        free.destroy()


@rule("hwpt_alloc.lifetime.last_child")
def test_parent_is_held_by_each_child(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A parent is EBUSY until its last nested HWPT is destroyed (iommufd_hwpt_nested_destroy)."""
    children = [iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid()) for _ in range(3)]
    for child in children:
        with raises_errno(EBUSY):
            parent_hwpt.destroy()
        child.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.lifetime.attached")
@pytest.mark.parametrize("kind", ["hwpt", "parent_hwpt", "nested_hwpt"])
def test_attached_device_holds_the_hwpt(
    mock_device: MockDevice, ioas: Ioas, kind: str, request: pytest.FixtureRequest
) -> None:
    """A HWPT is EBUSY while a device is attached to it (iommufd_device_attach)."""
    made = request.getfixturevalue(kind)
    mock_device.replace(made)
    with raises_errno(EBUSY):
        made.destroy()
    mock_device.replace(ioas)
    made.destroy()


@rule("hwpt_alloc.lifetime.manual")
def test_detached_hwpt_stays(mock_device: MockDevice, ioas: Ioas, hwpt: Hwpt) -> None:
    """A HWPT made on purpose stays when its last device leaves it, unlike an automatic one."""
    mock_device.replace(hwpt)
    mock_device.replace(ioas)
    hwpt.destroy()


@rule("hwpt_alloc.lifetime.device_gone")
def test_hwpt_outlives_its_device(
    iommufd: Context,
    mock_devices: Callable[..., MockDevice],
    other_ioas: Ioas,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
) -> None:
    """A HWPT holds no device: it outlives the one it was made for (iommufd_hwpt_alloc)."""
    device = mock_devices(other_ioas)
    made = iommufd.hwpt_alloc(device, parent_hwpt, hwpt_type.valid(iotlb=1))
    device.destroy()
    made.check_iotlb(0, 1)


@rule("hwpt_alloc.lifetime.id_reused")
def test_id_of_a_destroyed_hwpt_is_given_again(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, hwpt: Hwpt
) -> None:
    """The lowest free id is given out (xa_alloc)."""
    hwpt.destroy()
    assert iommufd.hwpt_alloc(mock_device, ioas).id == hwpt.id


# ---- a failed call ----


@rule("hwpt_alloc.undone.unwritable_paging")
def test_hwpt_whose_id_cannot_be_told_is_undone(
    unwritable: Callable[..., None],
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffer: Buffer,
) -> None:
    """A HWPT whose id cannot be written is undone: nothing holds the IOAS (out_hwpt)."""
    unwritable(dev_id=mock_device, pt_id=other_ioas)
    other_ioas.map(buffer, iova=OUTSIDE)  # no aperture is left either
    other_ioas.destroy()


@rule("hwpt_alloc.undone.unwritable_nested")
def test_nested_hwpt_whose_id_cannot_be_told_is_undone(
    unwritable: Callable[..., None], mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A nested HWPT whose id cannot be written is undone: nothing holds its parent (out_hwpt)."""
    data = hwpt_type.valid()
    unwritable(data.content, data_type=data.type, dev_id=mock_device, pt_id=parent_hwpt)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.unwritable_fault_queue")
def test_hwpt_whose_id_cannot_be_told_lets_go_of_its_queue(
    unwritable: Callable[..., None],
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    fault_queue: FaultQueue,
    uapi: Uapi,
) -> None:
    """A HWPT whose id cannot be written is undone: nothing holds its queue (out_hwpt)."""
    data = hwpt_type.valid()
    unwritable(
        data.content,
        data_type=data.type,
        dev_id=mock_device,
        pt_id=parent_hwpt,
        flags=uapi.IOMMU_HWPT_FAULT_ID_VALID,
        fault_id=fault_queue,
    )
    fault_queue.close()
    fault_queue.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.id_reused")
def test_id_that_could_not_be_told_is_given_again(
    unwritable: Callable[..., None], iommufd: Context, mock_device: MockDevice, other_ioas: Ioas
) -> None:
    """The id of a HWPT that was undone is free again (iommufd_object_abort)."""
    expected = iommufd.hwpt_alloc(mock_device, other_ioas)
    expected.destroy()
    unwritable(dev_id=mock_device, pt_id=other_ioas)
    with raises_errno(ENOENT):
        expected.destroy()
    assert iommufd.hwpt_alloc(mock_device, other_ioas).id == expected.id


@rule("hwpt_alloc.undone.fault_id_nested")
def test_nested_hwpt_without_its_queue_is_undone(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, uapi: Uapi
) -> None:
    """A queue that is not found undoes the nested HWPT: nothing holds its parent (out_hwpt)."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with raises_errno(ENOENT):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), flags=flags, fault_id=9999)
    parent_hwpt.destroy()


@rule("hwpt_alloc.undone.fault_id_paging")
@pytest.mark.usefixtures("paging_fault_id")
def test_hwpt_without_its_queue_is_undone(
    iommufd: Context,
    mock_device: MockDevice,
    other_ioas: Ioas,
    buffer: Buffer,
    uapi: Uapi,
) -> None:
    """A queue that is not found undoes the HWPT: nothing holds the IOAS (out_hwpt)."""
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    with raises_errno(ENOENT):
        iommufd.hwpt_alloc(mock_device, other_ioas, flags=flags, fault_id=9999)
    other_ioas.map(buffer, iova=OUTSIDE)  # no aperture is left either
    other_ioas.destroy()


@rule("hwpt_alloc.undone.data")
@pytest.mark.parametrize(
    ("wrong", "number"),
    [("data_type", EOPNOTSUPP), ("data_len", EINVAL), ("data_uptr", EFAULT)],
    ids=["data_type", "data_len", "data_uptr"],
)
def test_nested_hwpt_refused_by_the_driver_is_undone(
    iommufd: Context,
    mock_device: MockDevice,
    parent_hwpt: Hwpt,
    hwpt_type: HwptType,
    wrong: str,
    number: int,
) -> None:
    """Data that the driver refuses leaves nothing that holds the parent (out_abort)."""
    with raises_errno(number):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), **{wrong: 1})
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
    iommufd: Context,
    mock_device: MockDevice,
    buffer: Buffer,
    state: str,
    number: int,
    request: pytest.FixtureRequest,
) -> None:
    """An area that cannot go into the HWPT leaves nothing that holds the IOAS (out_detach)."""
    target = request.getfixturevalue(state)
    with raises_errno(number):
        iommufd.hwpt_alloc(mock_device, target)
    target.map(buffer, iova=0x1000_0000_0000)
    target.destroy()
