# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of IOMMU_HWPT_ALLOC need besides the fixtures: odd objects, and what differs."""

from __future__ import annotations

import mmap
from errno import ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import IoctlError, absent
from pytest_iommufd.iommufd import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_iommufd.iommufd import Buffer, FaultQueue, Hwpt, Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999
# Below the mock aperture, which is MOCK_APERTURE_START..MOCK_APERTURE_LAST.
OUTSIDE = 0x1000
PROT_NONE = 0
FAILSLAB_WAIT = "/sys/kernel/debug/failslab/ignore-gfp-wait"


# ---- what differs between kernels ----


@pytest.fixture
def alloc_pasid(uapi: Uapi) -> int:
    """IOMMU_HWPT_ALLOC_PASID; absent where the header does not define it."""
    if not uapi.has("IOMMU_HWPT_ALLOC_PASID"):
        absent("the header does not define IOMMU_HWPT_ALLOC_PASID")
    return uapi.IOMMU_HWPT_ALLOC_PASID


@pytest.fixture
def paging_takes_data(uapi: Uapi) -> bool:
    """Whether the mock driver takes data for a HWPT of an IOAS: to choose a page table."""
    return uapi.has("iommu_hwpt_selftest.pagetable_type")


@pytest.fixture
def paging_data(paging_takes_data: bool) -> None:  # noqa: FBT001 - a fixture's value
    """Absent where the mock driver takes no data for a HWPT of an IOAS."""
    if not paging_takes_data:
        absent("struct iommu_hwpt_selftest has no pagetable_type: no data for a HWPT of an IOAS")


@pytest.fixture
def paging_takes_fault_id(ledger: Ledger, uapi: Uapi) -> bool:
    """Whether a HWPT of an IOAS can have a fault queue, which no header tells.

    Kernels that define IOMMU_HWPT_ALLOC_PASID, which came later, must. Others are asked with a
    queue that does not exist: ENOENT where it is looked up, EOPNOTSUPP where the flag is refused.
    """
    if uapi.has("IOMMU_HWPT_ALLOC_PASID"):
        return True
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    ioas = context.ioas_alloc()
    try:
        context.hwpt_alloc(
            context.mock_device(ioas),
            ioas,
            flags=uapi.IOMMU_HWPT_FAULT_ID_VALID,
            fault_id=UNKNOWN,
        )
    except IoctlError as error:
        if error.errno in (ENOENT, EOPNOTSUPP):
            return error.errno == ENOENT
        raise
    pytest.fail("a HWPT was made with a fault queue that does not exist")


@pytest.fixture
def paging_fault_id(paging_takes_fault_id: bool) -> None:  # noqa: FBT001 - a fixture's value
    """Absent where a HWPT of an IOAS cannot have a fault queue."""
    if not paging_takes_fault_id:
        absent("IOMMU_HWPT_FAULT_ID_VALID with an IOAS gives EOPNOTSUPP for any fault_id")


# ---- objects ----


@pytest.fixture
def other_iommufd(ledger: Ledger, uapi: Uapi) -> Context:
    """A second context of the same process, whose ids are above those of the first."""
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    for _ in range(20):
        context.ioas_alloc()
    return context


@pytest.fixture
def other_ioas(iommufd: Context) -> Ioas:
    """An IOAS that no device is attached to."""
    return iommufd.ioas_alloc()


@pytest.fixture
def selftest_object(mock_device: MockDevice) -> IommufdObject:
    """The mock device's own object (IOMMUFD_OBJ_SELFTEST)."""
    return mock_device.selftest


@pytest.fixture
def no_dirty_device(mock_devices: Callable[..., MockDevice]) -> MockDevice:
    """A mock device that cannot track dirty pages."""
    return mock_devices(no_dirty=True)


@pytest.fixture
def dirty_hwpt(iommufd: Context, mock_device: MockDevice, ioas: Ioas) -> Hwpt:
    """A HWPT of the IOAS with dirty tracking that is no parent."""
    flags = iommufd.uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING
    return iommufd.hwpt_alloc(mock_device, ioas, flags=flags)


@pytest.fixture
def destroyed_ioas(iommufd: Context) -> Ioas:
    """An IOAS that was destroyed; nothing has its id, or one above it."""
    keep = [iommufd.ioas_alloc() for _ in range(20)]
    keep[-1].destroy()
    return keep[-1]


@pytest.fixture
def destroyed_device(mock_devices: Callable[..., MockDevice], other_ioas: Ioas) -> MockDevice:
    """A mock device that was destroyed."""
    device = mock_devices(other_ioas)
    device.destroy()
    return device


@pytest.fixture
def destroyed_queue(iommufd: Context) -> FaultQueue:
    """A fault queue that was destroyed."""
    queue = iommufd.fault_queue_alloc()
    queue.close()
    queue.destroy()
    return queue


@pytest.fixture
def access_id(iommufd: Context, ioas: Ioas) -> int:
    """An access object's id, which no ioctl tells: ids are given out in order."""
    before = iommufd.ioas_alloc().id
    iommufd.test("create_access", ioas)
    assert iommufd.ioas_alloc().id == before + 2
    return before + 1


@pytest.fixture
def vdevice_id(iommufd: Context, mock_device: MockDevice, viommu: Viommu) -> int:
    """A vDEVICE of the vIOMMU; absent where the kernel has none."""
    if not iommufd.has("IOMMU_VDEVICE_ALLOC"):
        absent("the kernel has no IOMMU_VDEVICE_ALLOC (ENOTTY)")
    made = iommufd.ioctl("IOMMU_VDEVICE_ALLOC", viommu_id=viommu, dev_id=mock_device, virt_id=0x99)
    return int(made.out_vdevice_id)


@pytest.fixture
def veventq_id(iommufd: Context, uapi: Uapi, viommu: Viommu) -> int:
    """A vEVENTQ of the vIOMMU; absent where the kernel has none."""
    if not iommufd.has("IOMMU_VEVENTQ_ALLOC"):
        absent("the kernel has no IOMMU_VEVENTQ_ALLOC (ENOTTY)")
    made = iommufd.ioctl(
        "IOMMU_VEVENTQ_ALLOC",
        viommu_id=viommu,
        type=uapi.IOMMU_VEVENTQ_TYPE_SELFTEST,
        veventq_depth=2,
    )
    return int(made.out_veventq_id)


@pytest.fixture
def hw_queue_id(
    iommufd: Context, uapi: Uapi, viommu: Viommu, ioas: Ioas, buffer: Buffer, page_size: int
) -> int:
    """A hardware queue of the vIOMMU; absent where the kernel has none."""
    if not iommufd.has("IOMMU_HW_QUEUE_ALLOC"):
        absent("the kernel has no IOMMU_HW_QUEUE_ALLOC (ENOTTY)")
    made = iommufd.ioctl(
        "IOMMU_HW_QUEUE_ALLOC",
        viommu_id=viommu,
        type=uapi.IOMMU_HW_QUEUE_TYPE_SELFTEST,
        nesting_parent_iova=ioas.map(buffer, page_size),
        length=page_size,
    )
    return int(made.out_hw_queue_id)


# ---- IOASes in states that a HWPT cannot be made from ----


@pytest.fixture
def ioas_outside_aperture(iommufd: Context, buffer: Buffer, page_size: int) -> Ioas:
    """An IOAS with an area below the mock aperture."""
    made = iommufd.ioas_alloc()
    made.map(buffer, page_size, iova=OUTSIDE)
    return made


@pytest.fixture
def ioas_unaligned(iommufd: Context, buffer: Buffer, uapi: Uapi) -> Ioas:
    """An IOAS with an area in the mock aperture that begins within a mock page of 2048 bytes."""
    made = iommufd.ioas_alloc()
    made.map(buffer.address + 1, 100, iova=uapi.MOCK_APERTURE_START + 1)
    return made


@pytest.fixture
def ioas_unpinnable(
    iommufd: Context, buffers: Callable[..., Buffer], page_size: int, uapi: Uapi
) -> Ioas:
    """An IOAS with an area whose memory cannot be read any more."""
    made = iommufd.ioas_alloc()
    memory = buffers(page_size)
    made.map(memory, iova=uapi.MOCK_APERTURE_START)
    memory.protect(PROT_NONE)
    return made


# ---- memory ----


@pytest.fixture
def readonly(buffers: Callable[..., Buffer], page_size: int) -> Callable[[bytes], int]:
    """Puts bytes into a page that is then read-only, and returns their address."""

    def put(content: bytes) -> int:
        page = buffers(page_size)
        address = page.write(content)
        page.protect(mmap.PROT_READ)
        return address

    return put


@pytest.fixture
def page_before_hole(buffers: Callable[..., Buffer], page_size: int) -> Buffer:
    """A page of memory with one behind it that cannot be read."""
    pages = buffers(2 * page_size)
    pages.protect(PROT_NONE, page_size)
    pages.size = page_size
    return pages


@pytest.fixture
def slab_can_fail(ledger: Ledger) -> Iterator[bool]:
    """Let fail_nth count allocations that may wait, which failslab passes over by itself.

    False where the kernel cannot inject failures into slab memory.
    """
    process = ledger.process
    try:
        process.write_file(FAILSLAB_WAIT, b"N")
    except OSError:
        yield False
        return
    yield True
    if process.machine.running and process in process.machine.processes:
        process.write_file(FAILSLAB_WAIT, b"Y")


@pytest.fixture
def failing_slab(slab_can_fail: bool) -> None:  # noqa: FBT001 - a fixture's value
    """With fail_nth memory can fail; absent where the kernel cannot inject that."""
    if not slab_can_fail:
        absent(f"no fault injection for slab memory: {FAILSLAB_WAIT} cannot be written")
