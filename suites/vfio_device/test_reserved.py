# SPDX-License-Identifier: GPL-2.0-only
"""IOVA ranges that devices and page tables do not leave to memory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Ioas, VfioDevice

MSI = (0xFEE0_0000, 0xFEEF_FFFF)
HYPERTRANSPORT = (0xFD_0000_0000, 0xFF_FFFF_FFFF)


def is_hole(ioas: Ioas, hole: tuple[int, int]) -> bool:
    """Whether just this range is left out between what can be mapped."""
    ranges = ioas.iova_ranges()
    gaps = [(before[1] + 1, behind[0] - 1) for before, behind in itertools.pairwise(ranges)]
    return hole in gaps


def is_free(ioas: Ioas, hole: tuple[int, int]) -> bool:
    """Whether all of a range can be mapped."""
    return any(first <= hole[0] and hole[1] <= last for first, last in ioas.iova_ranges())


def check_reserved(ioas: Ioas) -> None:
    how = "free" if is_free(ioas, MSI) else "reserved, but not alone or not all of it"
    assert is_hole(ioas, MSI), f"the interrupt window is {how}"


# ---- what a device reserves ----


@rule("vfio_device.reserved.msi")
def test_msi(expected, vfio_device, ioas):
    assert is_free(ioas, MSI)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
    assert is_hole(ioas, MSI)


@rule("vfio_device.reserved.ht")
def test_hypertransport(expected, vfio_device, ioas):
    assert is_free(ioas, HYPERTRANSPORT)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
    assert is_hole(ioas, HYPERTRANSPORT)


@rule("vfio_device.reserved.map")
@pytest.mark.usefixtures("attached")
def test_map_into_the_hole(expected, ioas, buffer, page_size):
    for iova in (MSI[0], MSI[0] - page_size, MSI[1] + 1 - page_size):
        with expected:
            ioas.map(buffer, 2 * page_size, iova=iova)
    ioas.map(buffer, page_size, iova=MSI[0] - page_size)
    ioas.map(buffer, page_size, iova=MSI[1] + 1)


@rule("vfio_device.reserved.mapped")
@pytest.mark.parametrize("iova", [MSI[0], MSI[1] & ~0xFFF], ids=hex)
def test_memory_in_the_hole(expected, vfio_device, ioas, buffer, page_size, iova):
    ioas.map(buffer, page_size, iova=iova)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
    ioas.unmap(iova, page_size)
    vfio_device.attach_iommufd_pt(ioas)


@rule("vfio_device.reserved.allowed")
def test_allowed_hole(expected, vfio_device, ioas):
    ioas.allow_iovas(MSI)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
    ioas.allow_iovas((0, MSI[0] - 1))
    vfio_device.attach_iommufd_pt(ioas)


@rule("vfio_device.reserved.automatic")
@pytest.mark.usefixtures("attached")
def test_automatic_allocation(expected, ioas, buffer, page_size):
    ioas.add_reserved(0, MSI[0] - page_size)
    below = ioas.map(buffer, page_size)
    with expected:
        above = ioas.map(buffer, page_size)
    assert (below, above) == (MSI[0] - page_size, MSI[1] + 1)


# ---- for how long ----


@rule("vfio_device.reserved.detached")
def test_detached(expected, attached, ioas):
    assert is_hole(ioas, MSI)
    with expected:
        attached.detach_iommufd_pt()
    assert is_free(ioas, MSI)


@rule("vfio_device.reserved.closed")
def test_closed(attached, ioas):
    assert is_hole(ioas, MSI)
    attached.close()
    assert is_free(ioas, MSI)


@rule("vfio_device.reserved.two")
@pytest.mark.parametrize("names", [("vfio_device", "other_vfio_device"), ("group_mates",)])
def test_two_devices(expected, ioas, request, names):
    found = [request.getfixturevalue(name) for name in names]
    devices: list[VfioDevice] = found if len(found) > 1 else list(found[0])
    for device in devices:
        with expected:
            device.attach_iommufd_pt(ioas)
    for device in devices:
        assert is_hole(ioas, MSI)
        device.detach_iommufd_pt()
    assert is_free(ioas, MSI)


@rule("vfio_device.reserved.hwpt")
@pytest.mark.usefixtures("device_hwpt")
def test_hwpt_alone(expected, ioas):
    with expected:
        ranges = ioas.iova_ranges()
    assert len(ranges) == 1
    assert is_free(ioas, MSI)


@rule("vfio_device.reserved.replace")
def test_replace(expected, attached, ioas, other_ioas):
    with expected:
        attached.attach_iommufd_pt(other_ioas)
    assert is_free(ioas, MSI)
    assert is_hole(other_ioas, MSI)


@rule("vfio_device.reserved.replace.same_ioas")
def test_replace_within(expected, attached, ioas, device_hwpt):
    with expected:
        attached.attach_iommufd_pt(device_hwpt)
    assert is_hole(ioas, MSI)


@rule("vfio_device.reserved.replace.failed")
def test_failed_replace_within(expected, attached, ioas, faulting_hwpt):
    with expected:
        attached.attach_iommufd_pt(faulting_hwpt)
    check_reserved(ioas)


@rule("vfio_device.reserved.replace.failed.other_ioas")
def test_failed_replace(expected, vfio_device, ioas, other_ioas, faulting_hwpt):
    vfio_device.attach_iommufd_pt(other_ioas)
    with expected:
        vfio_device.attach_iommufd_pt(faulting_hwpt)
    assert is_free(ioas, MSI)
    assert is_hole(other_ioas, MSI)


@rule("vfio_device.hwpt_alloc.fault_id.unreserved")
def test_failed_attach(expected, vfio_device, ioas, faulting_hwpt):
    with expected:
        vfio_device.attach_iommufd_pt(faulting_hwpt)
    assert is_free(ioas, MSI)


# ---- what a page table reaches ----


def reach(vtd_registers: tuple[int, int]) -> int:
    """How far VT-d's second stage reaches: the maximum guest address width, MGAW, in CAP."""
    return 1 << ((vtd_registers[0] >> 16 & 0x3F) + 1)


@rule("vfio_device.aperture")
@pytest.mark.usefixtures("device_hwpt")
def test_aperture(expected, ioas, vtd_registers):
    with expected:
        ranges = ioas.iova_ranges()
    assert ranges[-1][1] == reach(vtd_registers) - 1


@rule("vfio_device.aperture.mapped")
def test_memory_out_of_reach(
    expected, iommufd, vfio_device, ioas, buffer, page_size, vtd_registers
):
    ioas.map(buffer, page_size, iova=reach(vtd_registers))
    with expected:
        iommufd.hwpt_alloc(vfio_device, ioas)
    with expected:
        vfio_device.attach_iommufd_pt(ioas)
