# SPDX-License-Identifier: GPL-2.0-only
"""Reserved fields, fields that are ignored, and what the kernel writes."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_iommufd import rule

BITS = [1, 1 << 31, 0xFFFF_FFFF]
BIT_IDS = [f"{bit:#x}" for bit in BITS]


@rule("hwpt_alloc.reserved")
@pytest.mark.parametrize("value", BITS, ids=BIT_IDS)
def test_reserved_of_an_ioas(expected, iommufd, mock_device, ioas, value):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, __reserved=value)


@rule("hwpt_alloc.reserved.nested")
def test_reserved_of_a_nested(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), __reserved=1)


@rule("hwpt_alloc.reserved.viommu")
def test_reserved_of_a_viommu(expected, iommufd, mock_device, viommu, hwpt_type):
    with expected:
        iommufd.hwpt_alloc(mock_device, viommu, hwpt_type.valid(), __reserved=1)


@rule("hwpt_alloc.reserved.first_version")
def test_reserved_of_the_first_version(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, size=24, __reserved=1)


@rule("hwpt_alloc.reserved2")
@pytest.mark.parametrize("value", [1, 0xFFFF_FFFF], ids=["0x1", "0xffffffff"])
def test_reserved2_is_not_looked_at(expected, iommufd, mock_device, ioas, after_data_uptr, value):
    fields, tail = after_data_uptr(reserved2=value)
    with expected, iommufd.sending(tail=tail):
        iommufd.hwpt_alloc(mock_device, ioas, **fields)


@rule("hwpt_alloc.ignored.fault_id")
@pytest.mark.parametrize("value", [9999, 0xFFFF_FFFF], ids=["unknown", "all_ones"])
def test_fault_id_without_its_flag_is_not_looked_at(
    expected, iommufd, mock_device, ioas, after_data_uptr, value
):
    fields, tail = after_data_uptr(fault_id=value)
    with expected, iommufd.sending(tail=tail):
        iommufd.hwpt_alloc(mock_device, ioas, **fields)


@rule("hwpt_alloc.ignored.data_uptr")
@pytest.mark.parametrize("value", [1, 0xFFFF_8000_0000_0000], ids=["unmapped", "kernel"])
def test_data_uptr_without_data_is_not_looked_at(iommufd, mock_device, ioas, value):
    iommufd.hwpt_alloc(mock_device, ioas, data_uptr=value).destroy()


@rule("hwpt_alloc.ignored.out_hwpt_id")
@pytest.mark.parametrize("value", [0x1234_5678, 0xFFFF_FFFF], ids=["0x12345678", "0xffffffff"])
def test_out_hwpt_id_is_not_looked_at(iommufd, mock_device, ioas, value):
    made = iommufd.hwpt_alloc(mock_device, ioas, out_hwpt_id=value)
    assert made.id != value
    made.destroy()


@rule("hwpt_alloc.output.only_the_id")
def test_only_out_hwpt_id_is_changed(
    iommufd, mock_device, parent_hwpt, hwpt_type, uapi, type_field
):
    data = hwpt_type.valid()
    given: dict[str, Any] = {
        "size": uapi.sizeof("iommu_hwpt_alloc"),
        "dev_id": mock_device.id,
        "pt_id": parent_hwpt.id,
        "out_hwpt_id": 0,
        type_field: data.type,
        "data_len": len(data.content),
        "data_uptr": iommufd.put(data.content),
    }
    # what is not looked at is not written either
    odd = {"fault_id": 0x55, "__reserved2": 0}
    given |= {name: odd[name] for name in odd if uapi.has(f"iommu_hwpt_alloc.{name}")}
    written = iommufd.ioctl("IOMMU_HWPT_ALLOC", **given)
    assert {name for name in given if given[name] != written[name]} == {"out_hwpt_id"}


@rule("hwpt_alloc.output.size_echoed")
@pytest.mark.parametrize("extra", [0, 8, 200])
def test_size_is_given_back(iommufd, mock_device, ioas, uapi, extra):
    with iommufd.sending(tail=bytes(extra)):
        written = iommufd.ioctl("IOMMU_HWPT_ALLOC", dev_id=mock_device, pt_id=ioas)
    assert written.size == uapi.sizeof("iommu_hwpt_alloc") + extra


@rule("hwpt_alloc.output.beyond_size_untouched")
@pytest.mark.parametrize("extra", [0, 1, 8])
def test_bytes_beyond_the_size_stay(iommufd, mock_device, ioas, buffer, uapi, minimum, extra):
    size = minimum + extra
    given = uapi.struct("iommu_hwpt_alloc", size=size, dev_id=mock_device.id, pt_id=ioas.id)
    content = bytes(given)[:size].ljust(size, b"\0").ljust(64, b"\xaa")
    at = buffer.write(content)
    iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", at)
    assert buffer.read(64)[size:] == content[size:]
    iommufd.destroy(uapi.struct("iommu_hwpt_alloc").load(buffer.read(size)).out_hwpt_id)


@rule("hwpt_alloc.output.nothing_on_failure")
def test_a_failed_call_writes_nothing(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, out_hwpt_id=0x1234, __reserved=1)
    assert expected.error
    assert expected.error.struct is not None
    assert expected.error.struct.out_hwpt_id == 0x1234


@rule("hwpt_alloc.output.unwritable")
@pytest.mark.parametrize("extra", [0, 8])
def test_struct_cannot_be_written(
    expected, iommufd, mock_device, ioas, readonly, uapi, minimum, extra
):
    size = minimum + extra
    given = uapi.struct("iommu_hwpt_alloc", size=size, dev_id=mock_device.id, pt_id=ioas.id)
    with expected:
        iommufd.ioctl_pointer("IOMMU_HWPT_ALLOC", readonly(bytes(given).ljust(size, b"\0")))
