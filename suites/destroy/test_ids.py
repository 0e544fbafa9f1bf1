# SPDX-License-Identifier: GPL-2.0-only
"""Which ids name something."""

from __future__ import annotations

from errno import EFAULT, ENOENT
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.request import Request
from pytest_iommufd.iommufd.uffd import FaultingPage

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.object import IommufdObject

FREE = ["ioas", "hwpt", "parent_hwpt", "nested_hwpt", "closed_queue", "selftest"]
FREE_NESTING = ["viommu", "vdevice", "closed_veventq", "hw_queue", "viommu_hwpt"]


@rule("destroy.id")
@pytest.mark.parametrize("number", [0, 9999, (1 << 31) - 1, 1 << 31, 0xFFFF_FFFF], ids=hex)
@pytest.mark.parametrize("objects", [0, 3])
def test_id_that_names_nothing(expected, iommufd, number, objects):
    for _ in range(objects):
        iommufd.ioas_alloc()
    with expected:
        iommufd.destroy(number)


@rule("destroy.id")
def test_next_id(expected, iommufd, ioas):
    with expected:
        iommufd.destroy(ioas.id + 1)


@rule("destroy.twice")
@pytest.mark.parametrize("kind", FREE)
@pytest.mark.usefixtures("iommufd")
def test_twice(expected, kind, request):
    target: IommufdObject = request.getfixturevalue(kind)
    target.destroy()
    for _ in range(2):
        with expected:
            target.destroy()


@rule("destroy.twice.nesting")
@pytest.mark.parametrize("kind", FREE_NESTING)
@pytest.mark.usefixtures("iommufd")
def test_twice_nesting(expected, kind, request):
    target: IommufdObject = request.getfixturevalue(kind)
    target.destroy()
    for _ in range(2):
        with expected:
            target.destroy()


@rule("destroy.other_context")
def test_id_of_another_context(expected, iommufd, other_iommufd):
    last = [iommufd.ioas_alloc() for _ in range(3)][-1]
    other_iommufd.ioas_alloc()
    with expected:
        other_iommufd.destroy(last)
    last.destroy()


@rule("destroy.id.first")
def test_first_id(iommufd, other_iommufd):
    assert iommufd.ioas_alloc().id == other_iommufd.ioas_alloc().id == 1


@rule("destroy.id.order")
def test_ids_in_order(iommufd, mock_device, ioas):
    order = [ioas.id, mock_device.selftest.id, mock_device.id, mock_device.hwpt.id]
    order += [iommufd.hwpt_alloc(mock_device, ioas).id, iommufd.fault_queue_alloc().id]
    assert order == [1, 2, 3, 4, 5, 6]


@rule("destroy.id.lowest")
def test_lowest_id_first(iommufd):
    made = [iommufd.ioas_alloc() for _ in range(6)]
    for number in (4, 1, 3):
        made[number].destroy()
    assert [iommufd.ioas_alloc().id for _ in range(4)] == [2, 4, 5, 7]


@rule("destroy.id.other_type")
def test_id_for_another_kind(expected, iommufd, other_ioas, mock_device, ioas):
    other_ioas.destroy()
    made = iommufd.hwpt_alloc(mock_device, ioas)
    assert made.id == other_ioas.id
    with expected:
        other_ioas.unmap_all()
    made.destroy()


@rule("destroy.id.vdevice")
def test_id_of_a_vdevice_that_was_destroyed(mock_device, viommu, vdevice):
    vdevice.destroy()
    assert viommu.vdevice_alloc(mock_device).id == vdevice.id


@rule("destroy.id.failed")
def test_id_of_what_was_not_made(iommufd, ioas, unwritable):
    with raises_errno(EFAULT):
        unwritable("IOMMU_IOAS_ALLOC")
    assert iommufd.ioas_alloc().id == ioas.id + 1


@rule("destroy.id.tombstone")
def test_id_of_a_vdevice_without_device(expected, iommufd, mock_device, vdevice):
    mock_device.destroy()
    with expected:
        vdevice.destroy()
    assert vdevice.id not in [iommufd.ioas_alloc().id for _ in range(10)]
    with expected:
        vdevice.destroy()


@rule("destroy.id.tombstone.named")
def test_ids_of_a_device_that_is_gone(expected, iommufd, mock_device, viommu, vdevice):
    mock_device.destroy()
    named: list[tuple[str, dict[str, Any]]] = [
        ("IOMMU_VEVENTQ_ALLOC", {"viommu_id": vdevice.id, "type": 1, "veventq_depth": 1}),
        ("IOMMU_GET_HW_INFO", {"dev_id": vdevice.id}),
        ("IOMMU_GET_HW_INFO", {"dev_id": mock_device.id}),
        ("IOMMU_VDEVICE_ALLOC", {"viommu_id": viommu.id, "dev_id": mock_device.id, "virt_id": 9}),
    ]
    for name, fields in named:
        with expected:
            iommufd.ioctl(name, **fields)


@rule("destroy.unfinished")
def test_object_that_is_not_made_yet(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, page_size
):
    before = iommufd.ioas_alloc()
    before.destroy()
    data = hwpt_type.valid()
    page = FaultingPage(iommufd.process, page_size, data.content)
    fields = {"dev_id": mock_device, "pt_id": parent_hwpt, "data_type": data.type}
    fields |= {"data_len": len(data.content), "data_uptr": page.address}
    alloc, destroy = Request("hwpt_alloc", fields), Request("destroy", {"id": before})
    made, gone = meanwhile(iommufd, page, alloc, destroy)
    expected.check(gone)
    assert made == 0
    before.destroy()


@rule("destroy.unwritable")
def test_struct_cannot_be_written(ioas, unwritable, iommufd):
    unwritable("IOMMU_DESTROY", id=ioas)
    with raises_errno(ENOENT):
        iommufd.destroy(ioas)
