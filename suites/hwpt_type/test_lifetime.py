# SPDX-License-Identifier: GPL-2.0-only
"""Attaching HWPTs of the type, in which order what belongs to them is destroyed, and races."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOENT

import pytest

from pytest_iommufd import absent, raises_errno
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd import VfioDevice
from pytest_iommufd.iommufd.checks import check_refs
from pytest_iommufd.iommufd.eventfile import EventFile
from pytest_iommufd.iommufd.request import Request

from .conftest import of_each

PASID = 0x20
ROUNDS = 24


@of_each("attach", "mock")
def test_attach(expected, device, ioas, nested):
    device.replace(nested)
    with expected:
        nested.destroy()
    device.replace(ioas)
    nested.destroy()


@of_each("attach.pasid", "mock")
def test_attach_a_pasid(expected, declared, iommufd, mock_devices, ioas, data, uapi):
    if not uapi.has("IOMMU_TEST_OP_PASID_ATTACH"):
        absent("the kernel's header does not define IOMMU_TEST_OP_PASID_ATTACH")
    if "IOMMU_HWPT_ALLOC_PASID" not in declared.flags:
        absent("the declaration does not have IOMMU_HWPT_ALLOC_PASID among its flags")
    device, with_pasid = mock_devices(pasid=True), uapi.IOMMU_HWPT_ALLOC_PASID
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | with_pasid
    parent = iommufd.hwpt_alloc(device, ioas, flags=flags)
    device.replace(parent)
    nested = iommufd.hwpt_alloc(device, parent, data.valid(), flags=with_pasid)
    with expected:
        device.pasid_attach(PASID, nested)
    device.pasid_check_hwpt(PASID, nested)
    device.pasid_detach(PASID)


@of_each("attach.pasid.without_flag", "mock")
def test_attach_a_pasid_to_a_hwpt_without_the_flag(
    expected, iommufd, mock_devices, ioas, data, uapi
):
    if not uapi.has("IOMMU_TEST_OP_PASID_ATTACH"):
        absent("the kernel's header does not define IOMMU_TEST_OP_PASID_ATTACH")
    device = mock_devices(pasid=True)
    flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_PASID
    parent = iommufd.hwpt_alloc(device, ioas, flags=flags)
    device.replace(parent)
    nested = iommufd.hwpt_alloc(device, parent, data.valid())
    with expected:
        device.pasid_attach(PASID, nested)


@of_each("destroy.parent")
def test_parent_is_held(expected, iommufd, parent, nested):
    with expected:
        iommufd.destroy(parent)
    nested.destroy()
    iommufd.destroy(parent)


@of_each("destroy.viommu", "viommu")
def test_viommu_is_held(expected, alloc, type_viommu):
    made = alloc(pt=type_viommu)
    with expected:
        type_viommu.destroy()
    made.destroy()
    type_viommu.destroy()


@of_each("destroy.twice")
def test_destroyed_twice(expected, nested):
    nested.destroy()
    with expected:
        nested.destroy()


@of_each("destroy.close")
def test_closed_with_everything_there(
    iommufd, other_iommufd, device, ioas, nested, buffer, page_size
):
    assert nested.id
    ioas.map(buffer, page_size)
    check_refs(other_iommufd, buffer, page_size, 1)
    iommufd.close()
    if isinstance(device, VfioDevice):
        device.close()
    check_refs(other_iommufd, buffer, page_size, 0)


@of_each("race.parent", "of_parent")
@pytest.mark.usefixtures("stage2")
def test_allocation_against_destroy_of_the_parent(expected, iommufd, device, ioas, data, uapi):
    parents = [
        iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
        for _ in range(ROUNDS)
    ]
    content = data.valid().content
    fields = {"dev_id": device, "data_type": data.number, "data_len": len(content)}
    fields |= {"data_uptr": iommufd.put(content)}
    programs = allocs, destroys = Program(), Program()
    made = [iommufd.add(allocs, Request("hwpt_alloc", fields | {"pt_id": p})) for p in parents]
    gone = [iommufd.add(destroys, Request("destroy", {"id": parent})) for parent in parents]
    results = iommufd.process.run_parallel(programs, during="HWPT_ALLOC and DESTROY")
    errnos = [
        [call.take(own).errno for call in calls]
        for calls, own in zip((made, gone), results, strict=True)
    ]
    pairs = set(zip(*errnos, strict=True))
    # made, and so the parent is held; or the parent had gone, which is EINVAL or ENOENT
    assert pairs <= {(0, EBUSY), (EINVAL, 0), (ENOENT, 0)}
    after = iommufd.ioas_alloc()
    with expected:
        after.destroy()


@of_each("event.queue", "event")
def test_queue_of_events(expected, type_viommu, declared_event, uapi):
    number = getattr(uapi, declared_event.data_type)
    queue = type_viommu.veventq_alloc(2, type=number)
    with expected:
        type_viommu.veventq_alloc(2, type=number)
    queue.close()
    queue.destroy()
    with raises_errno(ENOENT):
        queue.destroy()


@of_each("event.default_type", "event")
def test_queue_of_events_of_no_type(expected, type_viommu):
    with expected:
        type_viommu.veventq_alloc(2, type=0)


@of_each("event.data", "event+mock")
def test_event(iommufd, alloc, device, type_viommu, declared_viommu, declared_event, uapi):
    queue = type_viommu.veventq_alloc(2, type=getattr(uapi, declared_event.data_type))
    type_viommu.vdevice_alloc(device, declared_viommu.virt_id)
    device.replace(alloc(pt=type_viommu))
    iommufd.test("trigger_vevent", trigger_vevent={"dev_id": device.id})
    content = bytes(declared_event.of(uapi).make())
    header = uapi.sizeof("iommufd_vevent_header")
    assert EventFile(queue).read(header + len(content))[header:] == content


@of_each("vdevice", "viommu")
def test_vdevice(expected, declared_viommu, device, type_viommu):
    made = type_viommu.vdevice_alloc(device, declared_viommu.virt_id)
    with expected:
        type_viommu.vdevice_alloc(device, declared_viommu.virt_id + 1)
    made.destroy()
