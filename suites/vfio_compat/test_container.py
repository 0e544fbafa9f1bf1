# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_SET_IOMMU, and what is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd import rule

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Ioas

TYPES = ["VFIO_TYPE1_IOMMU", "VFIO_TYPE1v2_IOMMU"]
EXTENSIONS = [*TYPES, "VFIO_UNMAP_ALL"]
LACKING = {
    "spapr": 2,
    "eeh": 5,
    "nesting": 6,
    "spapr_v2": 7,
    "update_vaddr": 10,
    "next": 11,
    "zero": 0,
    "unknown": 99,
    "high_bits": 1 << 32 | 1,
}


def huge_pages(ioas: Ioas) -> int:
    """Tell whether the IOAS may use large pages."""
    uapi = ioas.context.uapi
    made = ioas.context.ioctl(
        "IOMMU_OPTION",
        option_id=uapi.IOMMU_OPTION_HUGE_PAGES,
        op=uapi.IOMMU_OPTION_OP_GET,
        object_id=ioas,
    )
    return int(made.val64)


# ---- VFIO_GET_API_VERSION ----


@rule("vfio_compat.version")
def test_api_version(iommufd, vfio):
    for argument in [0, 1, 0xFFFF_8000_0000_0000]:
        assert vfio.ioctl_pointer("VFIO_GET_API_VERSION", argument) == iommufd.uapi.VFIO_API_VERSION


# ---- VFIO_CHECK_EXTENSION ----


@rule("vfio_compat.extension.there")
def test_extension_that_is_there(vfio):
    for name in EXTENSIONS:
        assert vfio.check_extension(getattr(vfio.uapi, name)) == 1


@rule("vfio_compat.extension.lacking")
def test_extension_that_is_not_there(vfio):
    for number in LACKING.values():
        assert vfio.check_extension(number) == 0


@rule("vfio_compat.extension.noiommu")
def test_extension_of_no_iommu(vfio):
    assert vfio.check_extension(vfio.uapi.VFIO_NOIOMMU_IOMMU) == 0


@rule("vfio_compat.extension.coherency_without_ioas")
def test_coherency_without_ioas(expected, vfio):
    with expected:
        vfio.check_extension(vfio.uapi.VFIO_DMA_CC_IOMMU)


@rule("vfio_compat.extension.coherency_without_device")
def test_coherency_without_device(container):
    assert container.check_extension(container.uapi.VFIO_DMA_CC_IOMMU) == 1


@rule("vfio_compat.extension.coherency_of_mock_device")
def test_coherency_of_a_mock_device(with_device):
    assert with_device.check_extension(with_device.uapi.VFIO_DMA_CC_IOMMU) == 0


# ---- VFIO_SET_IOMMU ----


@rule("vfio_compat.set_iommu.without_ioas")
def test_type_without_ioas(expected, vfio):
    for name in TYPES:
        with expected:
            vfio.set_iommu(getattr(vfio.uapi, name))


@rule("vfio_compat.set_iommu.unknown")
def test_unknown_type(expected, container):
    for kind in [0, 2, 4, 7, 8, 99, 1 << 32 | 1]:
        with expected:
            container.set_iommu(kind)


@rule("vfio_compat.set_iommu.unknown_first")
def test_unknown_type_is_told_first(expected, vfio):
    for kind in [0, 8, 99]:
        with expected:
            vfio.set_iommu(kind)


@rule("vfio_compat.set_iommu.type1")
def test_type1_has_no_large_pages(expected, with_device, ioas):
    for _ in range(2):
        with expected:
            with_device.set_iommu(with_device.uapi.VFIO_TYPE1_IOMMU)
        assert huge_pages(ioas) == 0


@rule("vfio_compat.set_iommu.type1v2")
def test_type1v2_has_large_pages(expected, with_device, ioas):
    with expected:
        with_device.set_iommu(with_device.uapi.VFIO_TYPE1v2_IOMMU)
    assert huge_pages(ioas) == 1


@rule("vfio_compat.set_iommu.type1_with_mappings")
def test_type1_with_mappings(expected, with_device, start, buffer, ioas):
    with_device.map_dma(start, buffer, buffer.size)
    with expected:
        with_device.set_iommu(with_device.uapi.VFIO_TYPE1_IOMMU)
    assert huge_pages(ioas) == 1


@rule("vfio_compat.set_iommu.type1_with_mappings_only")
def test_type1_with_mappings_and_no_device(expected, container, start, buffer):
    container.map_dma(start, buffer, buffer.size)
    with expected:
        container.set_iommu(container.uapi.VFIO_TYPE1_IOMMU)


@rule("vfio_compat.set_iommu.type1v2_with_mappings")
def test_type1v2_with_mappings(expected, with_device, start, buffer):
    with_device.map_dma(start, buffer, buffer.size)
    with expected:
        with_device.set_iommu(with_device.uapi.VFIO_TYPE1v2_IOMMU)


# ---- what there is not ----


@rule("vfio_compat.dirty_pages")
def test_dirty_pages(expected, with_device):
    for flag in ["START", "STOP", "GET_BITMAP"]:
        flags = getattr(with_device.uapi, f"VFIO_IOMMU_DIRTY_PAGES_FLAG_{flag}")
        with expected:
            with_device.ioctl("VFIO_IOMMU_DIRTY_PAGES", flags=flags)


@rule("vfio_compat.dirty_pages_pointer")
def test_dirty_pages_of_a_bad_pointer(expected, container):
    with expected:
        container.ioctl_pointer("VFIO_IOMMU_DIRTY_PAGES", 0)


@rule("vfio_compat.other_ioctls")
def test_ioctls_of_other_files(expected, container):
    for name in ["VFIO_GROUP_GET_STATUS", "VFIO_DEVICE_GET_INFO", "VFIO_IOMMU_ENABLE"]:
        with expected:
            container.ioctl_pointer(name, container.context.process.arena)
