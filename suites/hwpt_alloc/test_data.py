# SPDX-License-Identifier: GPL-2.0-only
"""The driver's data: type and length together, and what the mock driver makes of them."""

from __future__ import annotations

from errno import EINVAL, ENOENT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd import UserData
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.request import Request
from pytest_iommufd.iommufd.uffd import FaultingPage
from pytest_iommufd.machine import KernelSplat, MachineLost
from pytest_iommufd.machine.splat import find_splats
from pytest_iommufd.uapi.spare import spare_number

# Known to other drivers, and to none; VTD_S1, ARM_SMMUV3, AMD_GUEST come first.
OTHER_TYPES = [1, 2, 3, 0xBEEF, 0xDEAD_0000, 0xFFFF_FFFF]
KERNEL_ADDRESS = 0xFFFF_8000_0000_0000
# Where the core copies data it does so into a union of this size.
BEYOND_UNION = 16
UNKNOWN = 9999
# Enough calls for a leak to show among what else goes on.
LEAKS = 20_000


@rule("hwpt_alloc.data.length_without_type")
@pytest.mark.parametrize("length", [1, 8])
def test_length_without_type(expected, iommufd, mock_device, ioas, buffer, length):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data_len=length, data_uptr=buffer)


@rule("hwpt_alloc.data.length_without_type.nested")
@pytest.mark.parametrize("length", [1, 8])
def test_length_without_type_with_a_parent(
    expected, iommufd, mock_device, parent_hwpt, buffer, length
):
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, data_len=length, data_uptr=buffer)


@rule("hwpt_alloc.data.length_without_type.unreadable")
def test_unreadable_data_without_type(expected, iommufd, mock_device, ioas, unmapped):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data_len=4, data_uptr=unmapped)


@rule("hwpt_alloc.data.length_without_type.oversized")
def test_oversized_data_without_type(expected, iommufd, mock_device, ioas):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, UserData(0, bytes(BEYOND_UNION) + b"\1"))


@rule("hwpt_alloc.data.length_without_type.all_ones")
def test_gigabytes_of_data_without_type(expected, iommufd, mock_device, ioas, page_before_hole):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data_len=0xFFFF_FFFF, data_uptr=page_before_hole)


@rule("hwpt_alloc.data.type_without_length")
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_type_without_length(expected, iommufd, mock_device, hwpt_type, buffer, pt, request):
    target = request.getfixturevalue(pt)
    with expected:
        iommufd.hwpt_alloc(mock_device, target, data_type=hwpt_type.number, data_uptr=buffer)


@rule("hwpt_alloc.data.type_without_length.unknown")
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_unknown_type_without_length(expected, iommufd, mock_device, buffer, pt, request):
    target = request.getfixturevalue(pt)
    for data_type in OTHER_TYPES:
        with expected:
            iommufd.hwpt_alloc(mock_device, target, data_type=data_type, data_uptr=buffer)


@rule("hwpt_alloc.data.bare_type")
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_type_that_needs_no_data(expected, iommufd, mock_device, uapi, pt, request):
    target = request.getfixturevalue(pt)
    with expected:
        iommufd.hwpt_alloc(mock_device, target, UserData(uapi.IOMMU_HWPT_TYPE_SELFTEST_BARE, b""))


@rule("hwpt_alloc.data.bare_type.with_data")
@pytest.mark.parametrize("pt", ["ioas", "parent_hwpt"])
def test_data_of_a_type_that_needs_none(
    expected, iommufd, mock_device, uapi, unmapped, pt, request
):
    target, data = request.getfixturevalue(pt), UserData(uapi.IOMMU_HWPT_TYPE_SELFTEST_BARE, b"")
    with expected:
        iommufd.hwpt_alloc(mock_device, target, data, data_len=4, data_uptr=unmapped)


# ---- nested ----


@rule("hwpt_alloc.data.nested.unknown_type")
def test_type_of_another_driver(expected, iommufd, mock_device, parent_hwpt, hwpt_type):
    for data_type in OTHER_TYPES:
        with expected:
            data = UserData(data_type, hwpt_type.valid().content)
            iommufd.hwpt_alloc(mock_device, parent_hwpt, data)


@rule("hwpt_alloc.data.nested.unknown_type.no_warning")
def test_type_of_another_driver_is_no_bug(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, machine
):
    data, before = UserData(OTHER_TYPES[0], hwpt_type.valid().content), len(machine.log)
    try:
        with expected:
            iommufd.hwpt_alloc(mock_device, parent_hwpt, data)
        printed = machine.log[before:]
    except MachineLost as lost:  # that is another rule's
        printed = lost.console.splitlines()
    warnings = [splat for splat in find_splats(printed) if "WARNING: " in splat.title]
    if warnings:
        raise KernelSplat(f"the kernel warned: {warnings[0].title}", console=warnings[0].text)


@rule("hwpt_alloc.data.nested.reaches_driver")
@pytest.mark.parametrize("value", [1, 0xFFFF_FFFF], ids=hex)
def test_data_reaches_the_driver(iommufd, mock_device, parent_hwpt, hwpt_type, value):
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(iotlb=value))
    made.check_iotlb(0, value)
    with raises_errno(EINVAL):
        made.check_iotlb(0, value ^ 1)


@rule("hwpt_alloc.data.nested.too_short")
@pytest.mark.parametrize("length", [1, 3])
def test_data_is_too_short(expected, iommufd, mock_device, parent_hwpt, hwpt_type, length):
    data = hwpt_type.valid(iotlb=0x0403_0201)
    with expected:
        made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_len=length)
    if expected.ok:
        made.check_iotlb(0, int.from_bytes(data.content[:length], "little"))


@rule("hwpt_alloc.data.nested.first_version")
def test_data_of_the_first_version(iommufd, mock_device, parent_hwpt, hwpt_type):
    data = hwpt_type.valid(iotlb=4)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_len=4).check_iotlb(0, 4)


@rule("hwpt_alloc.data.nested.up_to_the_struct")
@pytest.mark.parametrize("length", [5, 8])
@pytest.mark.parametrize("fill", [0, 0xFF], ids=["zero", "nonzero"])
def test_data_up_to_the_struct_as_known(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, length, fill
):
    content = (5).to_bytes(4, "little").ljust(length, bytes([fill]))
    data = UserData(hwpt_type.number, content)
    with expected:
        made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data)
    if expected.ok:
        made.check_iotlb(0, 5)


@rule("hwpt_alloc.data.nested.too_long")
@pytest.mark.parametrize("extra", [1, 4000])
def test_data_is_too_long(expected, iommufd, mock_device, parent_hwpt, hwpt_type, extra):
    data = hwpt_type.valid(iotlb=extra)
    with expected:
        made = iommufd.hwpt_alloc(
            mock_device, parent_hwpt, UserData(data.type, data.content + bytes(extra))
        )
    if expected.ok:
        made.check_iotlb(0, extra)


@rule("hwpt_alloc.data.nested.too_long.nonzero")
@pytest.mark.parametrize("length", [BEYOND_UNION + 1, 4000])
def test_data_is_too_long_and_has_a_bit_set_there(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, length
):
    content = hwpt_type.valid().content.ljust(length - 1, b"\0") + b"\1"
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, UserData(hwpt_type.number, content))


@rule("hwpt_alloc.data.nested.too_long.within_union")
@pytest.mark.parametrize("extra", [1, 8])
def test_data_is_longer_than_its_own_struct_only(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, extra
):
    content = hwpt_type.valid().content + b"\xff" * extra
    assert len(content) <= BEYOND_UNION
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, UserData(hwpt_type.number, content))


@rule("hwpt_alloc.data.nested.too_long.megabytes")
def test_data_of_megabytes(expected, iommufd, mock_device, parent_hwpt, hwpt_type, buffers):
    zeroes = buffers(4 << 20)
    data = UserData(hwpt_type.number, b"")
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_len=zeroes.size, data_uptr=zeroes)


@rule("hwpt_alloc.data.nested.length_all_ones")
@pytest.mark.parametrize("length", [0x8000_0000, 0xFFFF_FFFF], ids=["2_gib", "all_ones"])
def test_data_of_gigabytes(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, page_before_hole, length
):
    data = hwpt_type.valid()
    with expected:
        iommufd.hwpt_alloc(
            mock_device, parent_hwpt, data, data_len=length, data_uptr=page_before_hole
        )


@rule("hwpt_alloc.data.nested.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel", "last_address"])
def test_data_cannot_be_read(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, unmapped, where
):
    last = (1 << 64) - 4
    at = {"null": 0, "unmapped": unmapped, "kernel": KERNEL_ADDRESS, "last_address": last}[where]
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_uptr=at)


@rule("hwpt_alloc.data.nested.straddling")
@pytest.mark.parametrize("readable", [1, 3])
def test_data_straddles_into_what_cannot_be_read(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, page_before_hole, readable
):
    at = page_before_hole.end - readable
    with expected:
        iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), data_uptr=at)


@rule("hwpt_alloc.data.nested.ends_before_hole")
def test_data_is_not_read_beyond_its_length(
    iommufd, mock_device, parent_hwpt, hwpt_type, page_before_hole
):
    data = hwpt_type.valid(iotlb=6)
    at = page_before_hole.write(data.content[:4], page_before_hole.size - 4)
    made = iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at, data_len=4)
    made.check_iotlb(0, 6)


@rule("hwpt_alloc.data.nested.readonly")
def test_data_may_be_readonly(iommufd, mock_device, parent_hwpt, hwpt_type, readonly):
    data = hwpt_type.valid(iotlb=7)
    at = readonly(data.content)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at).check_iotlb(0, 7)


@rule("hwpt_alloc.data.nested.unaligned")
@pytest.mark.parametrize("offset", [1, 4094])
def test_data_need_not_be_aligned(iommufd, mock_device, parent_hwpt, hwpt_type, buffer, offset):
    data = hwpt_type.valid(iotlb=offset)
    at = buffer.write(data.content, offset)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at).check_iotlb(3, offset)


@rule("hwpt_alloc.data.nested.unchanged")
def test_data_is_not_written(iommufd, mock_device, parent_hwpt, hwpt_type, buffer):
    data = hwpt_type.valid()
    at = buffer.write(data.content + b"\x5a" * 8)
    iommufd.hwpt_alloc(mock_device, parent_hwpt, data, data_uptr=at)
    assert buffer.read(len(data.content) + 8) == data.content + b"\x5a" * 8


@rule("hwpt_alloc.data.nested.copied_with_parent_held")
def test_parent_is_held_while_data_is_read(
    expected, iommufd, mock_device, parent_hwpt, hwpt_type, type_field, page_size
):
    data = hwpt_type.valid()
    page = FaultingPage(iommufd.process, page_size, data.content)
    fields = {"dev_id": mock_device, "pt_id": parent_hwpt, type_field: data.type}
    fields |= {"data_len": len(data.content), "data_uptr": page.address}
    alloc, destroy = Request("hwpt_alloc", fields), Request("destroy", {"id": parent_hwpt})
    made, gone = meanwhile(iommufd, page, alloc, destroy)
    expected.check(gone)
    # the HWPT is made unless its parent has gone meanwhile
    assert made == (EINVAL if expected.ok else 0)


@rule("hwpt_alloc.data.nested.leaks_nothing")
def test_data_is_freed_when_the_pt_id_is_not_found(expected, iommufd, mock_device, hwpt_type):
    def unreclaimable() -> int:
        lines = iommufd.process.read_file("/proc/meminfo").decode().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("SUnreclaim:"))

    def fail() -> None:
        with expected, iommufd.sending(repeat=LEAKS):
            iommufd.hwpt_alloc(mock_device, UNKNOWN, hwpt_type.valid())

    fail()
    before = unreclaimable()
    fail()
    assert (unreclaimable() - before) * 1024 < LEAKS * BEYOND_UNION / 2


# ---- of an IOAS ----


@rule("hwpt_alloc.data.paging.unknown_type")
def test_type_of_another_driver_with_an_ioas(expected, iommufd, mock_device, ioas):
    for data_type in OTHER_TYPES:
        with expected:
            iommufd.hwpt_alloc(mock_device, ioas, UserData(data_type, bytes(4)))


@rule("hwpt_alloc.data.paging")
def test_data_with_an_ioas(expected, iommufd, mock_device, other_ioas, hwpt_type):
    with expected:
        made = iommufd.hwpt_alloc(mock_device, other_ioas, UserData(hwpt_type.number, bytes(4)))
    if expected.ok:
        with raises_errno(ENOENT):
            made.check_iotlb(0, 0)  # only a nested one has an IOTLB


@rule("hwpt_alloc.data.paging.up_to_the_struct")
@pytest.mark.parametrize("length", [5, 8])
def test_data_up_to_the_struct_as_known_with_an_ioas(
    expected, iommufd, mock_device, ioas, hwpt_type, length
):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, UserData(hwpt_type.number, bytes(length)))


@rule("hwpt_alloc.data.paging.too_short")
@pytest.mark.parametrize("length", [1, 3])
def test_data_is_too_short_with_an_ioas(expected, iommufd, mock_device, ioas, hwpt_type, length):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, UserData(hwpt_type.number, bytes(length)))


@rule("hwpt_alloc.data.paging.too_long")
@pytest.mark.parametrize("length", [9, 64])
def test_data_is_too_long_with_an_ioas(expected, iommufd, mock_device, ioas, hwpt_type, length):
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, UserData(hwpt_type.number, bytes(length)))


@rule("hwpt_alloc.data.paging.length_all_ones")
def test_data_of_gigabytes_with_an_ioas(
    expected, iommufd, mock_device, ioas, hwpt_type, page_before_hole
):
    data = UserData(hwpt_type.number, b"")
    with expected:
        iommufd.hwpt_alloc(
            mock_device, ioas, data, data_len=0xFFFF_FFFF, data_uptr=page_before_hole
        )


@rule("hwpt_alloc.data.paging.unreadable")
@pytest.mark.parametrize("where", ["null", "unmapped", "kernel", "straddling"])
def test_data_cannot_be_read_with_an_ioas(
    expected, iommufd, mock_device, ioas, hwpt_type, page_before_hole, where
):
    hole = page_before_hole.end
    at = {"null": 0, "unmapped": hole, "kernel": KERNEL_ADDRESS, "straddling": hole - 2}[where]
    data = UserData(hwpt_type.number, bytes(4))
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data, data_uptr=at)


@rule("hwpt_alloc.data.paging.pagetable_type")
def test_unknown_page_table(expected, iommufd, mock_device, ioas, hwpt_type, uapi):
    for value in [spare_number(uapi, "iommu_hwpt_selftest.pagetable_type"), 0xFFFF_FFFF]:
        with expected:
            iommufd.hwpt_alloc(mock_device, ioas, hwpt_type.valid(pagetable_type=value))


@rule("hwpt_alloc.data.paging.pagetable_type_cut")
def test_unknown_page_table_in_half_a_field(expected, iommufd, mock_device, ioas, hwpt_type):
    data = hwpt_type.valid(pagetable_type=0x100)
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data, data_len=6)


@rule("hwpt_alloc.data.paging.readonly")
def test_data_may_be_readonly_with_an_ioas(
    expected, iommufd, mock_device, ioas, hwpt_type, readonly
):
    data = hwpt_type.valid()
    with expected:
        iommufd.hwpt_alloc(mock_device, ioas, data, data_uptr=readonly(data.content))
