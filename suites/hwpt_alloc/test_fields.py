# SPDX-License-Identifier: GPL-2.0-only
"""Reserved fields, fields that are ignored, and what the kernel writes."""

from __future__ import annotations

from errno import EFAULT, EOPNOTSUPP
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import raises_errno, rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, HwptType, Ioas, MockDevice, Viommu
    from pytest_iommufd.uapi import Uapi

BITS = [1 << bit for bit in (0, 1, 7, 8, 16, 24, 31)] + [0xFFFF_FFFF]
BIT_IDS = [f"{bit:#x}" for bit in BITS]
FIELDS = [
    "flags",
    "dev_id",
    "pt_id",
    "out_hwpt_id",
    "__reserved",
    "data_type",
    "data_len",
    "data_uptr",
    "fault_id",
    "__reserved2",
]


@rule("hwpt_alloc.reserved")
@pytest.mark.parametrize("value", BITS, ids=BIT_IDS)
def test_reserved_of_an_ioas(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, value: int
) -> None:
    """A bit in __reserved: EOPNOTSUPP (iommufd_hwpt_alloc)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas, __reserved=value)


@rule("hwpt_alloc.reserved.nested")
def test_reserved_of_a_nested(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType
) -> None:
    """A bit in __reserved with a parent and good data: EOPNOTSUPP (iommufd_hwpt_alloc)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), __reserved=1)


@rule("hwpt_alloc.reserved.viommu")
def test_reserved_of_a_viommu(
    iommufd: Context, mock_device: MockDevice, viommu: Viommu, hwpt_type: HwptType
) -> None:
    """A bit in __reserved with a vIOMMU and good data: EOPNOTSUPP (iommufd_hwpt_alloc)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), __reserved=1)


@rule("hwpt_alloc.reserved.first_version")
def test_reserved_of_the_first_version(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas
) -> None:
    """A bit in __reserved of the shortest struct: EOPNOTSUPP (iommufd_hwpt_alloc)."""
    with raises_errno(EOPNOTSUPP):
        iommufd.hwpt_alloc(mock_device, ioas, size=24, __reserved=1)


@rule("hwpt_alloc.ignored.reserved2")
@pytest.mark.parametrize("value", [1, 0xFFFF_FFFF], ids=["0x1", "0xffffffff"])
def test_reserved2_is_not_looked_at(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, value: int
) -> None:
    """Bits in __reserved2 are accepted, although iommufd.h wants it 0 (iommufd_hwpt_alloc)."""
    iommufd.hwpt_alloc(mock_device, ioas, __reserved2=value).destroy()


@rule("hwpt_alloc.ignored.fault_id")
@pytest.mark.parametrize("value", [9999, 0xFFFF_FFFF], ids=["unknown", "all_ones"])
def test_fault_id_without_its_flag_is_not_looked_at(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, value: int
) -> None:
    """A fault_id means nothing without FAULT_ID_VALID (iommufd_hwpt_alloc)."""
    iommufd.hwpt_alloc(mock_device, ioas, fault_id=value).destroy()


@rule("hwpt_alloc.ignored.data_uptr")
@pytest.mark.parametrize("value", [1, 0xFFFF_8000_0000_0000], ids=["unmapped", "kernel"])
def test_data_uptr_without_data_is_not_looked_at(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, value: int
) -> None:
    """A data_uptr means nothing with DATA_NONE and no data_len (iommufd_hwpt_alloc)."""
    iommufd.hwpt_alloc(mock_device, ioas, data_uptr=value).destroy()


@rule("hwpt_alloc.ignored.out_hwpt_id")
@pytest.mark.parametrize("value", [0x1234_5678, 0xFFFF_FFFF], ids=["0x12345678", "0xffffffff"])
def test_out_hwpt_id_is_not_looked_at(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, value: int
) -> None:
    """What out_hwpt_id has before is overwritten (iommufd_hwpt_alloc)."""
    made = iommufd.hwpt_alloc(mock_device, ioas, out_hwpt_id=value)
    assert made.id != value
    made.destroy()


@rule("hwpt_alloc.output.only_the_id")
def test_only_out_hwpt_id_is_changed(
    iommufd: Context, mock_device: MockDevice, parent_hwpt: Hwpt, hwpt_type: HwptType, uapi: Uapi
) -> None:
    """A call writes out_hwpt_id and leaves the other fields as given (iommufd_hwpt_alloc)."""
    data = hwpt_type.valid()
    given = uapi.struct(
        "iommu_hwpt_alloc",
        size=uapi.sizeof("iommu_hwpt_alloc"),
        dev_id=mock_device.id,
        pt_id=parent_hwpt.id,
        data_type=data.type,
        data_len=len(data.content),
        data_uptr=iommufd.put(data.content),
        fault_id=0x55,
        __reserved2=0x77,
    )
    written = iommufd.ioctl("IOMMU_HWPT_ALLOC", **{name: given[name] for name in FIELDS})
    changed = {name for name in ["size", *FIELDS] if given[name] != written[name]}
    assert changed == {"out_hwpt_id"}


@rule("hwpt_alloc.output.size_echoed")
@pytest.mark.parametrize("extra", [0, 8, 200])
def test_size_is_given_back(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, uapi: Uapi, extra: int
) -> None:
    """The size stays the caller's, a larger one too (iommufd_ucmd_respond)."""
    written = iommufd.ioctl("IOMMU_HWPT_ALLOC", dev_id=mock_device, pt_id=ioas, tail=bytes(extra))
    assert written.size == uapi.sizeof("iommu_hwpt_alloc") + extra


@rule("hwpt_alloc.output.beyond_size_untouched")
@pytest.mark.parametrize("size", [24, 25, 36, 40, 47, 48])
def test_bytes_beyond_the_size_stay(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas, buffer: Buffer, uapi: Uapi, size: int
) -> None:
    """Bytes beyond the size stay as they are (iommufd_ucmd_respond)."""
    given = uapi.struct("iommu_hwpt_alloc", size=size, dev_id=mock_device.id, pt_id=ioas.id)
    content = bytes(given)[:size].ljust(64, b"\xaa")
    at = buffer.write(content)
    iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
    assert buffer.read(64)[size:] == content[size:]
    iommufd.destroy(uapi.struct("iommu_hwpt_alloc").load(buffer.read(size)).out_hwpt_id)


@rule("hwpt_alloc.output.nothing_on_failure")
def test_a_failed_call_writes_nothing(
    iommufd: Context, mock_device: MockDevice, ioas: Ioas
) -> None:
    """A call that fails leaves out_hwpt_id as given (iommufd_hwpt_alloc)."""
    with raises_errno(EOPNOTSUPP) as caught:
        iommufd.hwpt_alloc(mock_device, ioas, out_hwpt_id=0x1234, __reserved=1)
    assert caught[0].struct is not None
    assert caught[0].struct.out_hwpt_id == 0x1234


@rule("hwpt_alloc.output.unwritable")
@pytest.mark.parametrize("size", [24, 48])
def test_struct_cannot_be_written(
    iommufd: Context,
    mock_device: MockDevice,
    ioas: Ioas,
    readonly: Callable[[bytes], int],
    uapi: Uapi,
    size: int,
) -> None:
    """A struct that cannot take the id: EFAULT (iommufd_ucmd_respond)."""
    given = uapi.struct("iommu_hwpt_alloc", size=size, dev_id=mock_device.id, pt_id=ioas.id)
    with raises_errno(EFAULT):
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given)))
