# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios of the kernel's own fault injection test, and what that one leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd import Buffer, Context

pytestmark = pytest.mark.fail_nth

SIZE = 128 << 10
# Enough for one batch of pages and no more; and what the kernel begins with.
TEMP_LIMIT, TEMP_DEFAULT = 32, 65536
PASID = 200


@pytest.fixture
def memory(buffers: Callable[..., Buffer]) -> Buffer:
    """Several pages: more than one batch where memory for batches is little."""
    return buffers(SIZE)


@pytest.fixture
def little_temporary_memory(iommufd: Context) -> Iterator[None]:
    """Have the kernel batch few pages at a time."""
    iommufd.test("set_temp_memory_limit", memory_limit={"limit": TEMP_LIMIT})
    yield
    if iommufd.process.alive:
        iommufd.test("set_temp_memory_limit", memory_limit={"limit": TEMP_DEFAULT})


@rule("fail_nth.ioas")
def test_ioas(iommufd, memory):
    ioas, other = iommufd.ioas_alloc(), iommufd.ioas_alloc()
    first, last = ioas.iova_ranges()[0]
    ioas.allow_iovas((first, last))
    iova = ioas.map(memory)
    copied = other.copy(ioas, iova, SIZE)
    ioas.unmap(iova, SIZE)
    other.unmap(copied, SIZE)


@rule("fail_nth.map_domain")
@pytest.mark.usefixtures("little_temporary_memory")
def test_map_domain(iommufd, ioas, memory):
    device = iommufd.mock_device(ioas)
    ioas.map(memory)
    device.destroy()
    iommufd.mock_device(ioas)


@rule("fail_nth.map_file_domain")
@pytest.mark.usefixtures("little_temporary_memory")
def test_map_file_domain(iommufd, ioas, memfd_buffer):
    device = iommufd.mock_device(ioas)
    ioas.map_file(memfd_buffer.fd, memfd_buffer.size)
    device.destroy()
    iommufd.mock_device(ioas)


@rule("fail_nth.map_two_domains")
@pytest.mark.usefixtures("little_temporary_memory")
def test_map_two_domains(iommufd, ioas, mock_device, memory):
    second = iommufd.mock_device(ioas)
    ioas.map(memory)
    mock_device.destroy()
    second.destroy()
    iommufd.mock_device(ioas)
    iommufd.mock_device(ioas)


@rule("fail_nth.access_rw")
def test_access_rw(ioas, memory, uapi):
    iova = ioas.map(memory)
    access = ioas.create_access()
    slow = uapi.MOCK_ACCESS_RW_SLOW_PATH
    for flags in (0, slow):
        access.read(iova, 20, flags)
        access.write(iova, b"x" * 20, flags)
    access.read(iova, SIZE, slow)


@rule("fail_nth.access_pin")
def test_access_pin(ioas, memory):
    iova = ioas.map(memory)
    access = ioas.create_access(pin=True)
    access.unpin(access.pin(iova, SIZE))


@rule("fail_nth.access_pin_domain")
@pytest.mark.usefixtures("mock_device")
def test_access_pin_domain(ioas, memory):
    iova = ioas.map(memory)
    access = ioas.create_access(pin=True)
    access.unpin(access.pin(iova, SIZE))


@rule("fail_nth.device")
def test_device(iommufd, ioas, memory, uapi):
    other = iommufd.ioas_alloc()
    for each in (ioas, other):
        each.map(memory, 4096, iova=uapi.MOCK_APERTURE_START)
    device = iommufd.mock_device(ioas)
    device.get_hw_info()
    made = iommufd.hwpt_alloc(device, ioas)
    device.replace(other)
    device.replace(made)
    device.destroy()


@rule("fail_nth.viommu")
def test_viommu(iommufd, ioas, mock_devices, memory, hwpt_type, uapi):
    device = mock_devices(pasid=True)
    iova = ioas.map(memory, 4096, iova=uapi.MOCK_APERTURE_START)
    pasid = uapi.IOMMU_HWPT_ALLOC_PASID
    plain = iommufd.hwpt_alloc(device, ioas, flags=pasid)
    parent = iommufd.hwpt_alloc(device, ioas, flags=pasid | uapi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    device.replace(plain)
    viommu = iommufd.viommu_alloc(device, parent)
    viommu.vdevice_alloc(device, 0)
    viommu.hw_queue_alloc(iova, 4096)
    queue = iommufd.fault_queue_alloc()
    flags = uapi.IOMMU_HWPT_FAULT_ID_VALID
    iommufd.hwpt_alloc(device, parent, hwpt_type.valid(), flags=flags, fault_id=queue)
    viommu.veventq_alloc()
    device.pasid_attach(PASID, parent)
    device.pasid_replace(PASID, plain)
    device.pasid_detach(PASID)
