# SPDX-License-Identifier: GPL-2.0-only
"""Devices, contexts and processes: who outlives whom."""

from __future__ import annotations

from errno import EBUSY, ENOENT

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import Context, VfioDevice


@rule("vfio_device.lifetime.destroy")
def test_destroy(expected, iommufd, vfio_device, ioas):
    for _ in range(2):
        with expected:
            iommufd.destroy(vfio_device)
        vfio_device.attach_iommufd_pt(ioas)


@rule("vfio_device.lifetime.other_context")
def test_other_context(expected, vfio_device, other_iommufd):
    *others, ioas = [other_iommufd.ioas_alloc() for _ in range(vfio_device.id + 1)]
    assert others[-1].id == vfio_device.id
    others[-1].destroy()
    with expected:
        other_iommufd.ioctl("IOMMU_GET_HW_INFO", dev_id=vfio_device)
    with expected:
        other_iommufd.hwpt_alloc(vfio_device, ioas)


@rule("vfio_device.lifetime.file_closed")
def test_file_is_closed_first(expected, iommufd, attached, ioas):
    with raises_errno(EBUSY):
        ioas.destroy()
    attached.close()
    with expected:
        ioas.destroy()
    with raises_errno(ENOENT):
        iommufd.destroy(attached)


@rule("vfio_device.lifetime.context_closed")
def test_context_is_closed_first(expected, iommufd, attached, ioas, other_ioas):
    iommufd.close()
    with expected:
        attached.attach_iommufd_pt(other_ioas)
    attached.detach_iommufd_pt()
    with expected:
        attached.attach_iommufd_pt(ioas)


@rule("vfio_device.lifetime.process_ends")
def test_process_ends(expected, machine, uapi, iommufd, vfio_nodes):
    process = machine.process()
    context = Context(process, uapi)
    device = VfioDevice(context, vfio_nodes[0])
    device.bind_iommufd()
    device.attach_iommufd_pt(context.ioas_alloc())
    process.end()
    with expected:
        VfioDevice(iommufd, vfio_nodes[0]).bind_iommufd()
