# SPDX-License-Identifier: GPL-2.0-only
"""VT-d's stage 1: data of nested HWPTs, and requests to invalidate their caches."""

from __future__ import annotations

import struct
from errno import EBUSY
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule

from .test_reserved import check_reserved

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context, Hwpt, Ioas, VfioDevice

NEST_PARENT, DIRTY_TRACKING, PASID = 1, 2, 8
VTD_S1 = 1
SRE, EAFE = 1, 2
LEAF = 1
EVERYTHING = (1 << 64) - 1


def stage1(flags: int = 0, root: int = 0x1000, width: int = 48, reserved: int = 0) -> bytes:
    """Return a struct iommu_hwpt_vtd_s1."""
    return struct.pack("<QQII", flags, root, width, reserved)


def entry(address: int = 0x1000, pages: int = 1, flags: int = 0, reserved: int = 0) -> bytes:
    """Return a struct iommu_hwpt_vtd_s1_invalidate."""
    return struct.pack("<QQII", address, pages, flags, reserved)


@pytest.fixture
def parent(iommufd: Context, vfio_device: VfioDevice, ioas: Ioas) -> Hwpt:
    """A HWPT of `ioas` that can be a parent, made for the device."""
    return iommufd.hwpt_alloc(vfio_device, ioas, flags=NEST_PARENT)


@pytest.fixture
def nest(iommufd: Context, vfio_device: VfioDevice, parent: Hwpt) -> Callable[..., Hwpt]:
    """Makes HWPTs nested in the parent: `nest(data, **fields)`."""

    def make(data: bytes, **fields: Any) -> Hwpt:
        given = {"data_type": VTD_S1, "data_len": len(data)}
        if "data_uptr" not in fields:
            given["data_uptr"] = iommufd.put(data)
        return iommufd.hwpt_alloc(vfio_device, parent, **(given | fields))

    return make


@pytest.fixture
def nested(nest: Callable[..., Hwpt]) -> Hwpt:
    """A HWPT nested in the parent."""
    return nest(stage1())


@pytest.fixture
def invalidate(iommufd: Context, nested: Hwpt) -> Callable[..., int]:
    """Makes requests of the nested HWPT's caches; returns how many were handled."""

    def call(*entries: bytes, **fields: Any) -> int:
        data = b"".join(entries)
        given = {"entry_len": len(entries[0]) if entries else 24, "entry_num": len(entries)}
        if "data_uptr" not in fields:
            given["data_uptr"] = iommufd.put(data)
        made = iommufd.ioctl("IOMMU_HWPT_INVALIDATE", hwpt_id=nested, **(given | fields))
        return int(made.entry_num)

    return call


# ---- the data ----


@rule("vfio_device.nested")
def test_nested(expected, nest):
    with expected:
        nest(stage1())
    with expected:
        nest(stage1(root=0xFFFF_FFFF_F000, width=57, flags=SRE))


@rule("vfio_device.nested.type")
@pytest.mark.parametrize("data_type", [2, 3, 4, 0xDEAD, 0xFFFF_FFFF], ids=hex)
def test_other_type(expected, nest, data_type):
    with expected:
        nest(stage1(), data_type=data_type)


@rule("vfio_device.nested.length")
@pytest.mark.parametrize("length", [1, 8, 16, 20, 23, 25, 32, 4096])
def test_length(expected, nest, unmapped, length):
    for fields in ({}, {"data_uptr": unmapped}):
        with expected:
            nest(stage1().ljust(4096, b"\0"), data_len=length, **fields)


@rule("vfio_device.nested.unreadable")
def test_unreadable(expected, nest, unmapped):
    for pointer in (0, unmapped, unmapped - 23):
        with expected:
            nest(stage1(), data_uptr=pointer)


@rule("vfio_device.nested.flags.unknown")
@pytest.mark.parametrize("bit", [3, 31, 32, 63])
def test_unknown_bits(expected, nest, vfio_device, bit):
    with expected:
        nested = nest(stage1(flags=1 << bit))
    if expected.defect:
        vfio_device.attach_iommufd_pt(nested)


@rule("vfio_device.nested.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_reserved(expected, nest, vfio_device, bit):
    with expected:
        nested = nest(stage1(reserved=1 << bit))
    if expected.defect:
        vfio_device.attach_iommufd_pt(nested)


@rule("vfio_device.nested.address_width")
@pytest.mark.parametrize("width", [0, 39, 49, 64, 0xFFFF_FFFF])
def test_address_width(expected, nest, width):
    with expected:
        nest(stage1(width=width))


@rule("vfio_device.nested.alloc_flags")
@pytest.mark.parametrize("flags", [NEST_PARENT, DIRTY_TRACKING, 16, 1 << 31], ids=hex)
def test_flags(expected, nest, flags):
    with expected:
        nest(stage1(), flags=flags)


@rule("vfio_device.nested.pasid")
def test_pasid(expected, nest):
    with expected:
        nest(stage1(), flags=PASID)


# ---- the parent ----


@rule("vfio_device.nested.parent.nested")
def test_nested_parent(expected, iommufd, vfio_device, nested):
    data = iommufd.put(stage1())
    with expected:
        iommufd.hwpt_alloc(vfio_device, nested, data_type=VTD_S1, data_len=24, data_uptr=data)


@rule("vfio_device.nested.parent.busy")
def test_busy_parent(expected, parent, nested):
    with expected:
        parent.destroy()
    nested.destroy()
    parent.destroy()


@rule("vfio_device.nested.parent.readonly")
def test_readonly(expected, iommufd, vfio_device, ioas, other_ioas, buffer, uapi):
    readonly = uapi.IOMMU_IOAS_MAP_READABLE
    other_ioas.map(buffer, flags=readonly)
    with expected:
        iommufd.hwpt_alloc(vfio_device, other_ioas, flags=NEST_PARENT)
    iommufd.hwpt_alloc(vfio_device, ioas, flags=NEST_PARENT)
    ioas.map(buffer)
    with expected:
        ioas.map(buffer, flags=readonly)


# ---- attaching it ----


@rule("vfio_device.nested.attach")
def test_attach(expected, vfio_device, nested, ioas):
    with expected:
        assert vfio_device.attach_iommufd_pt(nested) == nested.id
    check_reserved(ioas)
    with raises_errno(EBUSY):
        nested.destroy()
    vfio_device.detach_iommufd_pt()
    nested.destroy()


@rule("vfio_device.nested.attach.address_width")
@pytest.mark.parametrize("width", [0, 39, 47, 49, 56, 58, 64, 0xFFFF_FFFF])
def test_attach_address_width(expected, vfio_device, nest, width):
    nested = nest(stage1(width=width))
    with expected:
        vfio_device.attach_iommufd_pt(nested)


@rule("vfio_device.nested.attach.five_levels")
def test_attach_five_levels(expected, vfio_device, nest):
    nested = nest(stage1(width=57))
    with expected:
        vfio_device.attach_iommufd_pt(nested)


@rule("vfio_device.nested.attach.failed_replace")
def test_failed_replace(expected, vfio_device, parent, nest, ioas):
    vfio_device.attach_iommufd_pt(parent)
    nested = nest(stage1(width=0))
    with expected:
        vfio_device.attach_iommufd_pt(nested)
    check_reserved(ioas)


@rule("vfio_device.nested.attach.supervisor")
def test_attach_supervisor(expected, vfio_device, nest):
    nested = nest(stage1(flags=SRE))
    with expected:
        vfio_device.attach_iommufd_pt(nested)


@rule("vfio_device.nested.attach.extended_access")
def test_attach_extended_access(expected, vfio_device, nest):
    nested = nest(stage1(flags=EAFE))
    with expected:
        vfio_device.attach_iommufd_pt(nested)


# ---- its caches ----


@rule("vfio_device.nested.invalidate")
@pytest.mark.parametrize("attach", [False, True], ids=["detached", "attached"])
def test_invalidate(expected, invalidate, vfio_device, nested, attach):
    if attach:
        vfio_device.attach_iommufd_pt(nested)
    with expected:
        assert invalidate(entry()) == 1
    with expected:
        assert invalidate(entry(flags=LEAF), entry(0, EVERYTHING), entry(0, 1 << 20)) == 3
    with expected:
        assert invalidate() == 0


@rule("vfio_device.nested.invalidate.type")
@pytest.mark.parametrize("data_type", [1, 2, 0xDEAD])
def test_invalidate_type(expected, invalidate, data_type):
    for entries in ([], [entry()]):
        with expected:
            invalidate(*entries, data_type=data_type)
        assert expected.error
        assert expected.error.struct
        assert expected.error.struct.entry_num == 0


@rule("vfio_device.nested.invalidate.length")
@pytest.mark.parametrize("length", [1, 16, 20, 23, 25, 32, 4096])
def test_invalidate_length(expected, invalidate, length):
    with expected:
        invalidate(entry().ljust(4096, b"\0"), entry_len=length)


@rule("vfio_device.nested.invalidate.unreadable")
def test_invalidate_unreadable(expected, invalidate, unmapped):
    for pointer in (unmapped, unmapped - 23):
        with expected:
            invalidate(entry(), data_uptr=pointer)


@rule("vfio_device.nested.invalidate.flags")
@pytest.mark.parametrize("flags", [2, 4, 1 << 31, 0xFFFF_FFFF], ids=hex)
def test_invalidate_flags(expected, invalidate, flags):
    with expected:
        invalidate(entry(flags=flags))


@rule("vfio_device.nested.invalidate.reserved")
@pytest.mark.parametrize("bit", [0, 31])
def test_invalidate_reserved(expected, invalidate, bit):
    with expected:
        invalidate(entry(reserved=1 << bit))


@rule("vfio_device.nested.invalidate.unaligned")
@pytest.mark.parametrize("address", [1, 0x800, 0x1FFF])
def test_invalidate_unaligned(expected, invalidate, address):
    with expected:
        invalidate(entry(address))


@rule("vfio_device.nested.invalidate.everything")
def test_invalidate_everything_from_an_address(expected, invalidate):
    with expected:
        invalidate(entry(0x1000, EVERYTHING))


@rule("vfio_device.nested.invalidate.stops")
def test_invalidate_stops(expected, invalidate):
    with expected:
        invalidate(entry(), entry(0x2000), entry(0x2001), entry())
    assert expected.error
    assert expected.error.struct
    assert expected.error.struct.entry_num == 2
