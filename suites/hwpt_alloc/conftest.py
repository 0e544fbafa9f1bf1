# SPDX-License-Identifier: GPL-2.0-only
"""What the rules of IOMMU_HWPT_ALLOC need besides the fixtures: odd objects, and what differs."""

from __future__ import annotations

import struct
from errno import ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING, Any, SupportsIndex

import pytest

from pytest_iommufd import IoctlError, absent
from pytest_iommufd.iommufd import Context

from .dialects import ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, FaultQueue, Hwpt, Ioas, MockDevice, Viommu
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.iommufd.object import IommufdObject
    from pytest_iommufd.lab import Bench
    from pytest_iommufd.uapi import Uapi

UNKNOWN = 9999
# Below the mock aperture, which is MOCK_APERTURE_START..MOCK_APERTURE_LAST.
OUTSIDE = 0x1000
PROT_NONE = 0


# ---- what differs between kernels ----


@pytest.fixture(scope="session")
def dialect(bench: Bench) -> str:
    """Which dialect of the catalogue the kernel speaks."""
    return ask(bench.machine, bench.uapi)


@pytest.fixture
def minimum(dialect: str) -> int:
    """The smallest size that the kernel takes."""
    return 24 if dialect == "mainline" else 40


@pytest.fixture
def type_field(uapi: Uapi) -> str:
    """What the struct's field for the type is called."""
    return "data_type" if uapi.has("iommu_hwpt_alloc.data_type") else "hwpt_type"


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
def after_data_uptr(uapi: Uapi) -> Callable[..., tuple[dict[str, Any], bytes]]:
    """Gives what a program of today puts after data_uptr: fields, and a tail where they end."""

    def make(fault_id: SupportsIndex = 0, reserved2: int = 0) -> tuple[dict[str, Any], bytes]:
        if uapi.has("iommu_hwpt_alloc.fault_id"):
            return {"fault_id": fault_id, "__reserved2": reserved2}, b""
        return {}, struct.pack("<II", fault_id.__index__(), reserved2)

    return make


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
def selftest_object(mock_device: MockDevice) -> IommufdObject:
    """The mock device's own object (IOMMUFD_OBJ_SELFTEST)."""
    return mock_device.selftest


@pytest.fixture
def no_dirty_device(mock_devices: Callable[..., MockDevice]) -> MockDevice:
    """A mock device that cannot track dirty pages."""
    return mock_devices(no_dirty=True)


@pytest.fixture
def dirty_hwpt(iommufd: Context, mock_device: MockDevice, ioas: Ioas) -> Hwpt:
    """A HWPT of the IOAS with dirty tracking that is no parent; absent where no flag is taken."""
    if not iommufd.uapi.has("iommu_hwpt_alloc.data_type"):
        absent("no flag can be given: the struct has hwpt_type")
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
def ones(buffer: Buffer) -> int:
    """The address of memory that is not zero."""
    return buffer.write(b"\xff" * 64)
