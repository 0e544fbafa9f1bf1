# SPDX-License-Identifier: GPL-2.0-only
"""Closing a context with all that is in it; the ledger then looks for what is left."""

from __future__ import annotations

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_refs

ALL = ["hwpt", "nested_hwpt", "device_on_nested", "fault_hwpt", "access", "other_device"]
NESTING = ["viommu_hwpt", "vdevice", "veventq", "hw_queue"]


def _make(request: pytest.FixtureRequest, kinds: list[str]) -> None:
    for kind in kinds:
        request.getfixturevalue(kind)


@rule("destroy.close")
@pytest.mark.parametrize("kinds", [[kind] for kind in ALL] + [ALL, ALL[::-1]], ids="+".join)
def test_close(iommufd, kinds, request):
    _make(request, kinds)
    iommufd.close()


@rule("destroy.close.nesting")
@pytest.mark.parametrize(
    "kinds", [[kind] for kind in NESTING] + [[*ALL, *NESTING], NESTING[::-1]], ids="+".join
)
def test_close_nesting(iommufd, kinds, request):
    _make(request, kinds)
    iommufd.close()


@rule("destroy.close.tombstone")
def test_close_with_a_tombstone(iommufd, mock_device, vdevice):
    mock_device.destroy()
    assert vdevice.id
    iommufd.close()


@rule("destroy.close.pinned")
def test_close_unpins(iommufd, mock_device, other_iommufd, ioas, buffer):
    ioas.map(buffer)
    assert mock_device.id
    check_refs(other_iommufd, buffer, buffer.size, 1)
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.close.depth")
def test_close_a_chain(iommufd, other_iommufd, buffer, hwpt_type, uapi):
    spare = [iommufd.ioas_alloc() for _ in range(20)]
    ioas = iommufd.ioas_alloc()
    device = iommufd.mock_device(ioas)
    ioas.map(buffer)
    # what is held has a lower id in one test, a higher one in the other
    spare[5].destroy()
    parent = iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    spare[4].destroy()
    nested = iommufd.hwpt_alloc(device, parent, hwpt_type.valid())
    assert nested.id < parent.id < ioas.id
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.close.depth")
def test_close_a_chain_the_other_way(iommufd, other_iommufd, buffer, hwpt_type, uapi):
    ioas = iommufd.ioas_alloc()
    device = iommufd.mock_device(ioas)
    ioas.map(buffer)
    parent = iommufd.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    nested = iommufd.hwpt_alloc(device, parent, hwpt_type.valid())
    assert ioas.id < parent.id < nested.id
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.close.descriptor")
def test_second_descriptor(iommufd, ioas):
    copy = iommufd.process.checked("dup", iommufd.fd)
    iommufd.close()
    iommufd.fd = copy
    ioas.destroy()


@rule("destroy.close.process")
def test_second_process(iommufd, other_iommufd, ioas, buffer, mock_device):
    ioas.map(buffer)
    assert mock_device.id
    child = iommufd.process.fork()
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 1)
    child.end()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.close.fault_queue")
def test_file_of_a_fault_queue(iommufd, other_iommufd, mock_device, ioas, fault_queue, buffer):
    ioas.map(buffer)
    assert mock_device.id
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 1)
    fault_queue.close()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.close.access")
def test_file_of_an_access(iommufd, other_iommufd, mock_device, ioas, buffer):
    ioas.map(buffer)
    assert mock_device.id
    access = ioas.create_access()
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 1)
    access.close()
    check_refs(other_iommufd, buffer, buffer.size, 0)


@rule("destroy.contexts")
def test_contexts(iommufd, other_iommufd, ioas, buffer):
    kept = other_iommufd.ioas_alloc()
    assert kept.id == ioas.id
    other_iommufd.mock_device(kept)
    kept.map(buffer)
    ioas.destroy()
    iommufd.close()
    check_refs(other_iommufd, buffer, buffer.size, 1)
    assert kept.unmap_all() == buffer.size


@rule("destroy.vfio_ioas")
def test_destroyed_ioas_of_vfio(expected, iommufd, ioas, uapi):
    iommufd.ioctl("IOMMU_VFIO_IOAS", ioas_id=ioas, op=uapi.IOMMU_VFIO_IOAS_SET)
    ioas.destroy()
    iommufd.ioas_alloc()  # where the destroyed one was in the kernel's memory
    with expected:
        iommufd.ioctl("IOMMU_VFIO_IOAS", op=uapi.IOMMU_VFIO_IOAS_GET)


@rule("destroy.vfio_ioas.other")
def test_ioas_of_vfio_stays(iommufd, ioas, other_ioas, hwpt, uapi):
    iommufd.ioctl("IOMMU_VFIO_IOAS", ioas_id=ioas, op=uapi.IOMMU_VFIO_IOAS_SET)
    hwpt.destroy()
    other_ioas.destroy()
    assert iommufd.ioctl("IOMMU_VFIO_IOAS", op=uapi.IOMMU_VFIO_IOAS_GET).ioas_id == ioas.id
