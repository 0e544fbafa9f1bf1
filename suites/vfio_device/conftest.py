# SPDX-License-Identifier: GPL-2.0-only
"""What the devices' IOMMU is and can, as /sys tells; page tables and places of theirs."""

from __future__ import annotations

from errno import ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.iommufd import Context, IoctlError, VfioDevice
from pytest_iommufd.machine import passthrough

from .edu import Edu, is_edu

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import FaultQueue, Hwpt, Ioas
    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.machine import Machine
    from pytest_iommufd.machine.passthrough import Node
    from pytest_iommufd.uapi import Uapi

NO_ID = 0xDEAD
# Of VT-d's extended capability register.
_SC, _SCALABLE, _PASID, _SRS, _EAFS = 1 << 7, 1 << 43, 1 << 40, 1 << 31, 1 << 34
# Of its capability register.
_FL5LP = 1 << 60
# Of AMD's extended feature registers.
_GT, _PPR, _GATS = 1 << 4, 1 << 1, 3 << 12


# ---- whose IOMMU it is ----


@pytest.fixture
def is_intel(iommu_driver: str) -> bool:
    """Whether the devices are behind VT-d."""
    return iommu_driver == "intel"


@pytest.fixture
def is_amd(iommu_driver: str) -> bool:
    """Whether the devices are behind AMD's IOMMU."""
    return iommu_driver == "amd"


# ---- what it can ----


def _ecap(request: pytest.FixtureRequest) -> int:
    registers: tuple[int, int] = request.getfixturevalue("vtd_registers")
    return registers[1]


@pytest.fixture
def has_snoop(iommu_driver: str, request: pytest.FixtureRequest) -> bool:
    """Whether it can enforce cache coherency: VT-d by a register, AMD's always."""
    return iommu_driver == "amd" or (iommu_driver == "intel" and bool(_ecap(request) & _SC))


@pytest.fixture
def has_pasids(iommu_driver: str, request: pytest.FixtureRequest) -> bool:
    """Whether it supports PASIDs: VT-d by a register, AMD's if guest tables are the CPU's."""
    if iommu_driver == "intel":
        wanted = _PASID | _SCALABLE
        return _ecap(request) & wanted == wanted
    if iommu_driver != "amd":
        return False
    efr = request.getfixturevalue("amd_registers")[0]
    flags = request.getfixturevalue("ledger").process.read_file("/proc/cpuinfo").split()
    five_levels = b"la57" in flags and efr & _GATS != 1 << 12
    return bool(efr & _GT and efr & _PPR and not five_levels)


@pytest.fixture
def has_pasid_tables(iommu_driver: str, request: pytest.FixtureRequest) -> bool:
    """Whether HWPTs for PASIDs can be made, which VT-d's driver does for any IOMMU."""
    return iommu_driver == "intel" or bool(request.getfixturevalue("has_pasids"))


@pytest.fixture
def has_five_levels(vtd_registers: tuple[int, int]) -> bool:
    """Whether VT-d's first stage may have five levels."""
    return bool(vtd_registers[0] & _FL5LP)


@pytest.fixture
def has_supervisor(vtd_registers: tuple[int, int]) -> bool:
    """Whether VT-d takes supervisor requests."""
    return bool(vtd_registers[1] & _SRS)


@pytest.fixture
def has_extended_access(vtd_registers: tuple[int, int]) -> bool:
    """Whether VT-d has extended access flags."""
    return bool(vtd_registers[1] & _EAFS)


@pytest.fixture
def has_own_parents(iommu_driver: str, uapi: Uapi) -> bool:
    """Whether the core asks for a parent at all: AMD's driver nests in vIOMMUs only.

    It did so in each case while drivers had one way to make HWPTs, before there was ALLOC_PASID.
    """
    return iommu_driver != "amd" or not uapi.has("IOMMU_HWPT_ALLOC_PASID")


@pytest.fixture
def takes_fault_id(ledger: Ledger, uapi: Uapi, vfio_nodes: tuple[Node, ...]) -> bool:
    """Whether a HWPT of an IOAS can have a fault queue, which no header tells.

    Kernels that define IOMMU_HWPT_ALLOC_PASID, which came later, must. Others are asked with a
    queue that does not exist: ENOENT where it is looked up, EOPNOTSUPP where the flag is refused.
    """
    if uapi.has("IOMMU_HWPT_ALLOC_PASID"):
        return True
    context = Context(ledger.process, uapi)
    device = VfioDevice(context, vfio_nodes[0])
    device.bind_iommufd()
    ioas = context.ioas_alloc()
    try:
        context.hwpt_alloc(device, ioas, flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=NO_ID)
    except IoctlError as error:
        if error.errno in (ENOENT, EOPNOTSUPP):
            return error.errno == ENOENT
        raise
    finally:
        device.close()
        context.close()
    pytest.fail("a HWPT was made with a fault queue that does not exist")


@pytest.fixture
def has_unsafe_interrupts(machine: Machine, vfio_nodes: tuple[Node, ...], ledger: Ledger) -> bool:
    """Whether devices were bound although they can raise each other's interrupts."""
    assert vfio_nodes
    return machine.binds and not passthrough.interrupts_are_isolated(ledger.process)


@pytest.fixture
def has_edu(vfio_nodes: tuple[Node, ...], ledger: Ledger) -> bool:
    """Whether the devices do DMA when they are told to."""
    return is_edu(ledger.process, vfio_nodes[0])


# ---- devices and page tables ----


@pytest.fixture
def attached(vfio_device: VfioDevice, ioas: Ioas) -> VfioDevice:
    """A device attached to `ioas`."""
    vfio_device.attach_iommufd_pt(ioas)
    return vfio_device


@pytest.fixture
def edu(attached: VfioDevice) -> Edu:
    """The device attached to `ioas`, ready for DMA."""
    return Edu(attached)


@pytest.fixture
def device_hwpt(iommufd: Context, vfio_device: VfioDevice, ioas: Ioas) -> Hwpt:
    """A HWPT of `ioas` made for the device."""
    return iommufd.hwpt_alloc(vfio_device, ioas)


@pytest.fixture
def group_hwpt(iommufd: Context, group_mates: tuple[VfioDevice, VfioDevice], ioas: Ioas) -> Hwpt:
    """A HWPT of `ioas` made for the first of two devices that share a group."""
    return iommufd.hwpt_alloc(group_mates[0], ioas)


@pytest.fixture
def faulting_hwpt(
    iommufd: Context, vfio_device: VfioDevice, ioas: Ioas, fault_queue: FaultQueue, uapi: Uapi
) -> Hwpt:
    """A HWPT of `ioas` with a fault queue, made for the device."""
    return iommufd.hwpt_alloc(
        vfio_device, ioas, flags=uapi.IOMMU_HWPT_FAULT_ID_VALID, fault_id=fault_queue
    )
