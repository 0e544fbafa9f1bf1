# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_GET_HW_INFO, and cache coherency: what the IOMMU is and can."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.vfio import VfioContainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, Ioas, VfioDevice
    from pytest_iommufd.uapi import Uapi

NONE, INTEL_VTD, SMMUV3, TEGRA, AMD = range(5)
ERRATA_772415_SPR17 = 1
INPUT_TYPE = 1
NO_ATS = 8
OTHER_TYPES = [SMMUV3, TEGRA, 5, 0xDEAD, 0xFFFF_FFFF]
_ROOM = 64
_FILL = 0xCC


@pytest.fixture
def own_type(iommu_driver: str, uapi: Uapi) -> int:
    """The type of the data of the devices' driver."""
    if iommu_driver == "amd":
        return AMD if uapi.has("iommu_hw_info_amd") else NONE
    return INTEL_VTD


@pytest.fixture
def own_data(own_type: int, request: pytest.FixtureRequest) -> bytes:
    """What the driver has to tell, by the registers that /sys has."""
    if own_type == NONE:
        return b""
    if own_type == AMD:
        return struct.pack("<QQ", *request.getfixturevalue("amd_registers"))
    return struct.pack("<IIQQ", ERRATA_772415_SPR17, 0, *request.getfixturevalue("vtd_registers"))


@pytest.fixture
def ask(vfio_device: VfioDevice, buffer: Buffer) -> Callable[[int], tuple[int, bytes]]:
    """Asks for so many bytes; returns the length that is told, and memory that was filled."""

    def call(length: int) -> tuple[int, bytes]:
        buffer.write(bytes([_FILL]) * _ROOM)
        made = vfio_device.get_hw_info(data_len=length, data_uptr=buffer)
        return int(made.data_len), buffer.read(_ROOM)

    return call


# ---- the type and its data ----


@rule("vfio_device.hw_info.type")
def test_type(expected, vfio_device, own_type):
    with expected:
        assert vfio_device.get_hw_info().out_data_type == own_type


@rule("vfio_device.hw_info.vtd")
def test_vtd(expected, ask, own_data):
    with expected:
        length, data = ask(len(own_data))
    assert (length, data[:length]) == (24, own_data)


@rule("vfio_device.hw_info.amd")
def test_amd(expected, ask, own_data):
    with expected:
        length, data = ask(len(own_data))
    assert (length, data[:length]) == (16, own_data)


@rule("vfio_device.hw_info.length")
@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 17, 23, 24, 25, 32, 48])
def test_length(expected, ask, own_data, length):
    with expected:
        told, data = ask(length)
    assert told == len(own_data)
    given = own_data[:length].ljust(length, b"\0")
    assert data == given.ljust(_ROOM, bytes([_FILL]))


@rule("vfio_device.hw_info.type.asked")
def test_own_type_asked_for(expected, vfio_device, own_type):
    for asked in (NONE, own_type):
        with expected:
            made = vfio_device.get_hw_info(flags=INPUT_TYPE, in_data_type=asked)
        assert made.out_data_type == own_type


@rule("vfio_device.hw_info.type.other")
def test_other_type_asked_for(expected, vfio_device, own_type):
    foreign = ({INTEL_VTD, AMD} - {own_type}) | set(OTHER_TYPES)
    for asked in sorted(foreign):
        with expected:
            vfio_device.get_hw_info(flags=INPUT_TYPE, in_data_type=asked)


@rule("vfio_device.hw_info.capabilities")
def test_capabilities(expected, vfio_device, uapi, has_dirty):
    with expected:
        made = vfio_device.get_hw_info(out_capabilities=0xFF, out_max_pasid_log2=0xFF)
    wanted = uapi.IOMMU_HW_CAP_DIRTY_TRACKING if has_dirty else 0
    if uapi.has("IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED"):
        wanted |= NO_ATS
    assert (made.out_capabilities, made.out_max_pasid_log2) == (wanted, 0)


@rule("vfio_device.hw_info.attached")
def test_attached(expected, vfio_device, ioas):
    before = vfio_device.get_hw_info()
    vfio_device.attach_iommufd_pt(ioas)
    with expected:
        assert bytes(vfio_device.get_hw_info()) == bytes(before)


# ---- cache coherency ----


@pytest.fixture
def container(iommufd: Context, ioas: Ioas) -> VfioContainer:
    """The context as a VFIO container of `ioas`."""
    iommufd.ioctl("IOMMU_VFIO_IOAS", op=iommufd.uapi.IOMMU_VFIO_IOAS_SET, ioas_id=ioas)
    return VfioContainer(iommufd)


@rule("vfio_device.coherency.enforced")
@pytest.mark.usefixtures("attached")
def test_coherency(expected, container, uapi):
    with expected:
        assert container.check_extension(uapi.VFIO_DMA_CC_IOMMU) == 1


@rule("vfio_device.coherency.mixed")
@pytest.mark.usefixtures("attached")
def test_coherency_with_a_mock_device(expected, container, mock_device, uapi):
    with expected:
        assert container.check_extension(uapi.VFIO_DMA_CC_IOMMU) == 0
    mock_device.destroy()
    assert container.check_extension(uapi.VFIO_DMA_CC_IOMMU) == 1
