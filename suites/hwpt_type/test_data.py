# SPDX-License-Identifier: GPL-2.0-only
"""The type's data: its type and length, where it is, and what its fields may be."""

from __future__ import annotations

import pytest

from pytest_iommufd import absent, raises_errno
from pytest_iommufd.iommufd import UserData
from pytest_iommufd.uapi import errno_number

from .conftest import of_each

KERNEL_ADDRESS = 0xFFFF_8000_0000_0000
LARGE = 4096
UNKNOWN_TYPES = [0xBEEF, 0x7FFF_FFFF, 0xFFFF_FFFF]

# ---- type ----


@of_each("data.type.none")
def test_no_type(expected, iommufd, device, parent, data):
    with expected:
        iommufd.hwpt_alloc(device, parent, UserData(0, data.valid().content))


@of_each("data.type.other")
def test_type_of_another_driver(expected, declared, iommufd, device, parent, data, uapi):
    known = uapi.names_of("iommu_hwpt_alloc.data_type")
    own = [name for name in known if declared.device == "mock" and "SELFTEST" in name]
    numbers = {number for name, number in known.items() if name not in own} - {0, data.number}
    for number in sorted(numbers):
        with expected.as_declared(declared.wrong_type):
            iommufd.hwpt_alloc(device, parent, UserData(number, data.valid().content))


@of_each("data.type.unknown")
@pytest.mark.parametrize("number", UNKNOWN_TYPES, ids=hex)
def test_type_that_nobody_knows(expected, declared, iommufd, device, parent, data, number):
    with expected.as_declared(declared.wrong_type):
        iommufd.hwpt_alloc(device, parent, UserData(number, data.valid().content))


@of_each("data.type.right_with_wrong_data")
def test_right_type_with_data_that_is_not_its_own(declared, alloc, uapi):
    ones = b"\xff" * uapi.sizeof(declared.struct)
    refused = {
        values.errno
        for name, values in declared.values(uapi).items()
        if not (values.has((1 << declared.bits(uapi, name)) - 1, uapi) or values.defect)
    }
    if not refused:
        absent("by its declaration the driver checks no field")
    with raises_errno(
        *map(errno_number, refused)
    ):  # which field the driver looks at first is its own
        alloc(ones)


# ---- length ----


@of_each("data.length.zero")
def test_no_data(expected, alloc):
    with expected:
        alloc(b"")


@of_each("data.length.zero.with_pointer")
def test_no_length(expected, alloc, data):
    with expected:
        alloc(data.valid().content, data_len=0)


@of_each("data.length.one")
def test_one_byte(expected, declared, alloc, uapi):
    if declared.least(uapi) == 1:
        absent("one byte is all that the type needs")
    with expected:
        alloc(b"\0")


@of_each("data.length.below_minimum")
def test_a_byte_too_few(expected, declared, alloc, data, uapi):
    with expected:
        alloc(data.valid().content[: declared.least(uapi) - 1])


@of_each("data.length.from_minimum")
def test_minimum_and_more(expected, declared, alloc, data, uapi, check_reached):
    content = data.valid().content
    for length in range(declared.least(uapi), len(content) + 1):
        with expected:
            made = alloc(content[:length])
        check_reached(made, content[:length])


@of_each("data.length.beyond")
@pytest.mark.parametrize(
    "tail", [b"\0", b"\1", bytes(8), bytes(7) + b"\1", b"\xff" * 8], ids=bytes.hex
)
def test_data_with_a_tail(expected, alloc, data, tail):
    with expected:
        alloc(data.valid().content + tail)


@of_each("data.length.huge")
@pytest.mark.parametrize("length", [LARGE, 0x7FFF_FFFF, 0xFFFF_FFFF], ids=hex)
def test_huge_length(expected, alloc, data, length):
    with expected:
        alloc(data.valid().content, data_len=length)


# ---- pointer ----


@of_each("data.pointer.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel"])
def test_data_cannot_be_read(expected, alloc, data, unmapped, where):
    at = {"null": 0, "unmapped": unmapped, "kernel": KERNEL_ADDRESS}[where]
    with expected:
        alloc(data.valid().content, data_uptr=at)


@of_each("data.pointer.crosses_into_hole")
def test_data_crosses_into_what_cannot_be_read(expected, alloc, data, page_before_hole):
    content = data.valid().content
    for readable in {1, len(content) // 2, len(content) - 1}:
        at = page_before_hole.write(content[:readable], page_before_hole.size - readable)
        with expected:
            alloc(content, data_uptr=at)


@of_each("data.pointer.ends_before_hole")
def test_data_is_not_read_beyond_its_length(alloc, data, page_before_hole, check_reached):
    content = data.valid().content
    at = page_before_hole.write(content, page_before_hole.size - len(content))
    check_reached(alloc(content, data_uptr=at), content)


@of_each("data.pointer.readonly")
def test_data_may_be_readonly(alloc, data, readonly, check_reached):
    content = data.valid().content
    check_reached(alloc(content, data_uptr=readonly(content)), content)


@of_each("data.pointer.unaligned")
@pytest.mark.parametrize("offset", [1, 2, 4095])
def test_data_need_not_be_aligned(alloc, data, buffer, check_reached, offset):
    content = data.valid().content
    check_reached(alloc(content, data_uptr=buffer.write(content, offset)), content)


@of_each("data.unchanged")
def test_data_is_not_written(alloc, data, buffer):
    content = data.valid().content
    at = buffer.write(content + b"\x5a" * 8)
    alloc(content, data_uptr=at)
    assert buffer.read(len(content) + 8) == content + b"\x5a" * 8


# ---- fields ----


@of_each("data.field.FIELD.inside", "data")
def test_values_that_a_field_takes(expected, field, alloc, uapi, check_reached):
    for content in field.inside(uapi):
        with expected:
            made = alloc(content)
        check_reached(made, content)


@of_each("data.field.FIELD.outside", "data")
def test_values_that_a_field_does_not_take(expected, field, alloc, uapi):
    for content in field.outside(uapi):
        with expected.as_declared(field.values.errno, field.values.defect):
            alloc(content)


@of_each("data.field.FIELD.outside.viommu", "data+viommu")
def test_values_that_a_field_does_not_take_with_a_viommu(expected, field, alloc, type_viommu, uapi):
    for content in field.outside(uapi):
        with expected.as_declared(field.values.errno, field.values.defect):
            alloc(content, type_viommu)


# ---- through a vIOMMU ----


@of_each("data.viommu.length", "viommu")
def test_lengths_with_a_viommu(expected, declared, alloc, type_viommu, data, uapi):
    content = data.valid().content
    for wrong in (b"", content[: declared.least(uapi) - 1], content + b"\0", content + bytes(8)):
        with expected:
            alloc(wrong, type_viommu)


@of_each("data.viommu.type", "viommu")
def test_type_that_nobody_knows_with_a_viommu(
    expected, declared, iommufd, device, type_viommu, data
):
    for number in UNKNOWN_TYPES:
        with expected.as_declared(declared.wrong_type):
            iommufd.hwpt_alloc(device, type_viommu, UserData(number, data.valid().content))


@of_each("data.viommu.pointer", "viommu")
def test_data_cannot_be_read_with_a_viommu(expected, alloc, type_viommu, data, unmapped):
    for at in (0, unmapped):
        with expected:
            alloc(data.valid().content, type_viommu, data_uptr=at)
