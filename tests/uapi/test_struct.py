# SPDX-License-Identifier: GPL-2.0-only
"""Structs: values in, bytes out, and what a misuse says."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.uapi import UapiError, UnknownNameError

if TYPE_CHECKING:
    from pytest_iommufd.uapi import Uapi

ALLOC_FIELDS = (
    "size, flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len, data_uptr, "
    "fault_id, __reserved2"
)


def test_fields_become_bytes(newest: Uapi) -> None:
    values = range(1, 12)
    alloc = newest.struct(
        "iommu_hwpt_alloc", **dict(zip(newest.fields("iommu_hwpt_alloc"), values, strict=True))
    )
    assert bytes(alloc) == struct.pack("=8IQ2I", *values)


def test_fields_not_given_are_zero(newest: Uapi) -> None:
    assert bytes(newest.struct("iommu_hwpt_alloc")) == bytes(48)


def test_set_and_get(newest: Uapi) -> None:
    alloc = newest.struct("iommu_hwpt_alloc", size=48)
    alloc.size += 8
    assert alloc.size == alloc["size"] == 56
    # This is no class body, so the name needs no other spelling.
    alloc.__reserved = 5
    assert alloc["__reserved"] == 5


class TestNamesThatPythonMangles:
    def test_reserved_fields(self, newest: Uapi) -> None:
        alloc = newest.struct("iommu_hwpt_alloc", __reserved=1)
        assert alloc.__reserved == 1
        alloc.__reserved2 = 3
        assert alloc["__reserved2"] == 3
        assert alloc.replace(__reserved=4)["__reserved"] == 4


def test_anonymous_union_members_share_their_memory(newest: Uapi) -> None:
    info = newest.struct("iommu_hw_info", in_data_type=newest.IOMMU_HW_INFO_TYPE_SELFTEST)
    assert info.out_data_type == 0xFEEDBEEF


@pytest.mark.parametrize("value", [[1, 2, 3], (1, 2, 3), b"\1\2\3"])
def test_arrays(newest: Uapi, value: Any) -> None:
    info = newest.struct("iommu_hw_info", __reserved=value)
    assert info["__reserved"] == (1, 2, 3)
    assert bytes(info)[29:32] == b"\1\2\3"


def test_members_that_are_structs(newest: Uapi) -> None:
    cmd = newest.struct("iommu_test_cmd", mock_domain={"out_stdev_id": 7})
    cmd.mock_domain.out_hwpt_id = 8
    assert bytes(cmd)[16:24] == struct.pack("=2I", 7, 8)
    cmd.mock_domain = {"out_hwpt_id": 9}
    assert (cmd.mock_domain.out_stdev_id, cmd.mock_domain.out_hwpt_id) == (7, 9)


def test_a_member_may_be_set_from_a_struct(newest: Uapi) -> None:
    bitmap = newest.struct("vfio_bitmap", pgsize=4096, size=8, data=0x1000)
    get = newest.struct("vfio_iommu_type1_dirty_bitmap_get", bitmap=bitmap)
    assert get.bitmap.data == 0x1000


def test_a_member_outlives_the_name_of_its_owner(newest: Uapi) -> None:
    member = newest.struct("iommu_test_cmd", mock_domain={"out_stdev_id": 7}).mock_domain
    for _ in range(1000):
        newest.struct("iommu_test_cmd", mock_domain={"out_stdev_id": 1})
    assert member.out_stdev_id == 7


def test_load_overlays_what_it_gets(newest: Uapi) -> None:
    destroy = newest.struct("iommu_destroy", size=8, id=5)
    assert destroy.load(b"\x01\0\0\0") is destroy
    assert (destroy.size, destroy.id) == (1, 5)
    destroy.load(b"\x02\0\0\0\x03\0\0\0and more")
    assert (destroy.size, destroy.id) == (2, 3)


def test_replace_copies(newest: Uapi) -> None:
    first = newest.struct("iommu_destroy", size=8, id=5)
    second = first.replace(id=6)
    assert (first.id, second.id, second.size) == (5, 6, 8)


def test_equality_is_name_and_bytes(newest: Uapi) -> None:
    first = newest.struct("iommu_destroy", size=8)
    assert first == newest.struct("iommu_destroy", size=8)
    assert first != newest.struct("iommu_destroy", size=9)
    assert first != newest.struct("iommu_ioas_change_process", size=8)
    assert first != bytes(first)
    with pytest.raises(TypeError):
        hash(first)


def test_unknown_field(newest: Uapi) -> None:
    message = (
        "struct iommu_hwpt_alloc has no field flag; did you mean flags?\n"
        f"expected: one of {ALLOC_FIELDS}"
    )
    with pytest.raises(UnknownNameError) as made:
        newest.struct("iommu_hwpt_alloc", flag=1)
    assert str(made.value) == message
    alloc = newest.struct("iommu_hwpt_alloc")
    with pytest.raises(UnknownNameError) as read:
        _ = alloc.flag
    assert str(read.value) == message
    with pytest.raises(UnknownNameError) as written:
        alloc.flag = 1
    assert str(written.value) == message
    with pytest.raises(UnknownNameError) as replaced:
        alloc.replace(flag=1)
    assert str(replaced.value) == message


def test_unknown_field_of_a_member(newest: Uapi) -> None:
    with pytest.raises(UnknownNameError) as error:
        newest.struct("iommu_test_cmd", mock_domain={"out_stdev": 1})
    assert str(error.value) == (
        "struct iommu_test_cmd.mock_domain has no field out_stdev; did you mean out_stdev_id?\n"
        "expected: one of out_stdev_id, out_hwpt_id, out_idev_id"
    )


@pytest.mark.parametrize(
    ("name", "field", "value", "kind", "expected"),
    [
        ("iommu_hwpt_alloc", "flags", 2**32, "__u32", "an integer from 0 to 4294967295"),
        ("iommu_hwpt_alloc", "flags", -1, "__u32", "an integer from 0 to 4294967295"),
        ("iommu_hwpt_alloc", "flags", "1", "__u32", "an integer from 0 to 4294967295"),
        ("iommu_hwpt_alloc", "flags", 1.0, "__u32", "an integer from 0 to 4294967295"),
        ("iommu_hwpt_alloc", "flags", None, "__u32", "an integer from 0 to 4294967295"),
        ("iommu_option", "op", 2**16, "__u16", "an integer from 0 to 65535"),
        ("iommu_hwpt_alloc", "data_uptr", 2**64, "__u64", f"an integer from 0 to {2**64 - 1}"),
        ("iommu_ioas_map_file", "fd", 2**31, "__s32", f"an integer from {-(2**31)} to {2**31 - 1}"),
        ("iommu_hw_info", "__reserved", [1], "__u8[3]", "a sequence of 3 integers"),
        ("iommu_hw_info", "__reserved", 5, "__u8[3]", "a sequence of 3 integers"),
        (
            "iommu_test_cmd",
            "mock_domain",
            1,
            "a struct",
            "a dict with fields of out_stdev_id, out_hwpt_id, out_idev_id",
        ),
    ],
)
def test_a_value_that_does_not_fit(
    newest: Uapi, *, name: str, field: str, value: object, kind: str, expected: str
) -> None:
    message = f"{name}.{field} = {value!r} does not fit {kind}\nexpected: {expected}"
    with pytest.raises(UapiError) as made:
        newest.struct(name, **{field: value})
    assert str(made.value) == message
    with pytest.raises(UapiError) as written:
        setattr(newest.struct(name), field, value)
    assert str(written.value) == message
    assert not isinstance(made.value, AttributeError)


def test_an_element_that_does_not_fit(newest: Uapi) -> None:
    with pytest.raises(UapiError) as error:
        newest.struct("iommu_hw_info", __reserved=[0, 0, 256])
    assert str(error.value) == (
        "iommu_hw_info.__reserved = 256 does not fit __u8\nexpected: an integer from 0 to 255"
    )


def test_extremes_fit(newest: Uapi) -> None:
    assert newest.struct("iommu_ioas_map_file", fd=-1).fd == -1
    assert newest.struct("iommu_hwpt_alloc", data_uptr=2**64 - 1).data_uptr == 2**64 - 1


def test_repr_names_flags_and_values(newest: Uapi) -> None:
    alloc = newest.struct(
        "iommu_hwpt_alloc",
        size=48,
        flags=newest.IOMMU_HWPT_ALLOC_NEST_PARENT | 0x80,
        dev_id=3,
        pt_id=2,
        data_type=newest.IOMMU_HWPT_DATA_SELFTEST,
        data_len=8,
        data_uptr=0x7F0000001000,
    )
    assert repr(alloc) == (
        "struct iommu_hwpt_alloc(size=48, flags=IOMMU_HWPT_ALLOC_NEST_PARENT|0x80, dev_id=3, "
        "pt_id=2, out_hwpt_id=0, __reserved=0, data_type=IOMMU_HWPT_DATA_SELFTEST, data_len=8, "
        "data_uptr=0x7f0000001000, fault_id=0, __reserved2=0)"
    )


def test_repr_of_an_unnamed_value(newest: Uapi) -> None:
    assert repr(newest.struct("iommu_option", option_id=9, val64=10)) == (
        "struct iommu_option(size=0, option_id=9, op=IOMMU_OPTION_OP_SET, __reserved=0, "
        "object_id=0, val64=0xa)"
    )


def test_repr_of_a_test_command_shows_its_own_member(newest: Uapi) -> None:
    cmd = newest.struct(
        "iommu_test_cmd",
        size=72,
        op=newest.IOMMU_TEST_OP_MD_CHECK_MAP,
        check_map={"iova": 0x1000, "length": 4096, "uptr": 0x2000},
    )
    assert repr(cmd) == (
        "struct iommu_test_cmd(size=72, op=IOMMU_TEST_OP_MD_CHECK_MAP, id=0, __reserved=0, "
        "check_map={iova=0x1000, length=0x1000, uptr=0x2000}, last=0)"
    )
    cmd.op = 999
    assert repr(cmd) == "struct iommu_test_cmd(size=72, op=999, id=0, __reserved=0, last=0)"


def test_repr_of_flags_in_a_member(newest: Uapi) -> None:
    cmd = newest.struct(
        "iommu_test_cmd",
        op=newest.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS,
        mock_domain_flags={"dev_flags": newest.MOCK_FLAGS_DEVICE_PASID},
    )
    assert "dev_flags=MOCK_FLAGS_DEVICE_PASID}" in repr(cmd)


def test_flexible_arrays_hold_nothing(newest: Uapi) -> None:
    info = newest.struct("vfio_iommu_type1_info_cap_iova_range", nr_iovas=1)
    assert info.iova_ranges == ()
    assert newest.sizeof(info.name, "iova_ranges") == 0
    assert newest.offsetof(info.name, "iova_ranges") == info.sizeof == 16
