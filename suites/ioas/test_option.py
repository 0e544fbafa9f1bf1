# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_OPTION: what pinned pages count for, and whether an IOAS may use huge pages."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_map
from pytest_iommufd.uapi.spare import spare_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Context
    from pytest_iommufd.uapi import Uapi

MOCK_PAGE = 2048
OPS = pytest.mark.parametrize("op", [0, 1], ids=["set", "get"])


@pytest.fixture
def rlimit_mode(iommufd: Context, uapi: Uapi) -> Callable[..., int]:
    """Sets RLIMIT_MODE to a value, or gets it without one; takes any field."""

    def option(value: int | None = None, **fields: Any) -> int:
        op = uapi.IOMMU_OPTION_OP_GET if value is None else uapi.IOMMU_OPTION_OP_SET
        given = {"option_id": uapi.IOMMU_OPTION_RLIMIT_MODE, "op": op, "val64": value or 0}
        return int(iommufd.ioctl("IOMMU_OPTION", **(given | fields)).val64)

    return option


@rule("ioas.option.reserved")
@OPS
@pytest.mark.parametrize("option", [0, 9])
def test_reserved_field(expected, iommufd, option, op):
    with expected:
        iommufd.ioctl("IOMMU_OPTION", option_id=option, op=op, __reserved=1)


@rule("ioas.option.option_id")
@OPS
def test_unknown_option(expected, iommufd, ioas, op):
    unknown = spare_number(iommufd.uapi, "iommu_option.option_id")
    with expected:
        iommufd.ioctl("IOMMU_OPTION", option_id=unknown, op=op, object_id=ioas)


@rule("ioas.option.rlimit_mode.default")
def test_rlimit_mode_is_0_at_first(rlimit_mode):
    assert rlimit_mode() == 0


@rule("ioas.option.rlimit_mode.set")
def test_rlimit_mode_is_what_was_set(rlimit_mode):
    for value in (1, 1, 0, 0, 1):
        assert rlimit_mode(value) == value
        assert rlimit_mode() == value


@rule("ioas.option.rlimit_mode.own")
def test_rlimit_mode_is_the_contexts_own(rlimit_mode, ioas, iommufd):
    assert ioas.context is iommufd
    other = type(iommufd)(iommufd.process, iommufd.uapi)
    other.ioctl("IOMMU_OPTION", option_id=0, op=0, val64=1)
    other.close()
    assert rlimit_mode() == 0


@rule("ioas.option.rlimit_mode.value")
@pytest.mark.parametrize("value", [2, 1 << 32])
def test_rlimit_mode_has_two_values(expected, rlimit_mode, value):
    rlimit_mode(1)
    with expected:
        rlimit_mode(value)
    assert rlimit_mode() == 1


@rule("ioas.option.rlimit_mode.op")
@pytest.mark.parametrize("op", [2, 0xFFFF])
def test_rlimit_mode_with_an_unknown_op(expected, rlimit_mode, op):
    with expected:
        rlimit_mode(op=op)


@rule("ioas.option.rlimit_mode.object_id")
@OPS
def test_rlimit_mode_is_of_no_object(expected, rlimit_mode, unknown_id, op):
    # with an object in the context, setting the mode fails anyway
    with expected:
        rlimit_mode(op=op, object_id=unknown_id)


@rule("ioas.option.rlimit_mode.object_id_first")
@pytest.mark.parametrize("privileged", [False, True])
def test_object_takes_precedence(expected, request, rlimit_mode, ioas, privileged):
    if not privileged:
        request.getfixturevalue("without_sys_resource")
    with expected:
        rlimit_mode(0, object_id=ioas.id)


@rule("ioas.option.rlimit_mode.busy")
@pytest.mark.parametrize("value", [0, 2])
def test_rlimit_mode_is_set_before_anything_is_made(expected, rlimit_mode, ioas, value):
    with expected:
        rlimit_mode(value)
    assert rlimit_mode() == 0
    ioas.destroy()
    rlimit_mode(min(value, 1))


@rule("ioas.option.rlimit_mode.privilege")
@pytest.mark.parametrize("value", [0, 2])
@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.usefixtures("without_sys_resource")
def test_rlimit_mode_needs_a_capability(expected, iommufd, rlimit_mode, value, busy):
    if busy:
        iommufd.ioas_alloc()
    with expected:
        rlimit_mode(value)


@rule("ioas.option.rlimit_mode.get_needs_nothing")
@pytest.mark.usefixtures("without_sys_resource", "ioas")
def test_rlimit_mode_may_be_read_by_anyone(rlimit_mode):
    assert rlimit_mode() == 0


@rule("ioas.option.rlimit_mode.unwritable")
@pytest.mark.parametrize("op", [0, 1], ids=["set", "get"])
def test_rlimit_mode_cannot_be_written(expected, rlimit_mode, unwritable, uapi, op):
    with expected:
        unwritable("IOMMU_OPTION", op=op, val64=1)
    assert rlimit_mode() == (op == uapi.IOMMU_OPTION_OP_SET)


@rule("ioas.option.huge_pages.default")
def test_huge_pages_are_1_at_first(ioas):
    assert ioas.huge_pages() == 1


@rule("ioas.option.huge_pages.set")
def test_huge_pages_are_what_was_set(ioas, other_ioas):
    for value in (0, 0, 1, 1, 0):
        ioas.huge_pages(value)
        assert ioas.huge_pages() == value
    assert other_ioas.huge_pages() == 1


@rule("ioas.option.huge_pages.value")
@pytest.mark.parametrize("value", [2, 1 << 32])
def test_huge_pages_have_two_values(expected, ioas, value):
    with expected:
        ioas.huge_pages(value)
    assert ioas.huge_pages() == 1


@rule("ioas.option.huge_pages.op")
@pytest.mark.parametrize("op", [2, 0xFFFF])
def test_huge_pages_with_an_unknown_op(expected, ioas, op):
    with expected:
        ioas.huge_pages(op=op)


@rule("ioas.option.huge_pages.object_id")
@OPS
def test_huge_pages_of_an_unknown_ioas(expected, ioas, unknown_id, op):
    with expected:
        ioas.huge_pages(op=op, object_id=unknown_id)


@rule("ioas.option.huge_pages.object_id.other_type")
@OPS
def test_huge_pages_of_another_type(expected, ioas, auto_hwpt, op):
    with expected:
        ioas.huge_pages(op=op, object_id=auto_hwpt)


@rule("ioas.option.huge_pages.object_id_first")
def test_no_ioas_takes_precedence(expected, ioas, no_ioas):
    with expected:
        ioas.huge_pages(op=2, object_id=no_ioas)


@rule("ioas.option.huge_pages.device")
def test_huge_pages_may_be_off_before_anything_is_pinned(mock_device, ioas, buffer, page_size):
    ioas.huge_pages(0)
    assert ioas.alignment() == page_size
    iova = ioas.map(buffer)
    check_map(mock_device.hwpt, iova, buffer, buffer.size)
    ioas.huge_pages(1)
    assert ioas.alignment() == MOCK_PAGE


@rule("ioas.option.huge_pages.pinned")
def test_huge_pages_stay_on_when_something_is_pinned(expected, mock_device, ioas, buffer):
    assert mock_device.id
    ioas.map(buffer)
    with expected:
        ioas.huge_pages(0)
    assert ioas.huge_pages() == 1
    ioas.huge_pages(1)


@rule("ioas.option.huge_pages.mapped")
def test_huge_pages_may_be_off_with_areas(ioas, buffer):
    ioas.map(buffer, iova=0x1000)
    ioas.huge_pages(0)
    assert ioas.huge_pages() == 0


@rule("ioas.option.huge_pages.unaligned_area")
@pytest.mark.parametrize("what", ["iova", "length", "memory"])
def test_huge_pages_stay_on_with_an_unaligned_area(expected, ioas, buffer, page_size, what):
    iova = page_size + MOCK_PAGE * (what == "iova")
    length = page_size - MOCK_PAGE * (what == "length")
    ioas.map(buffer.address + MOCK_PAGE * (what == "memory"), length, iova=iova)
    with expected:
        ioas.huge_pages(0)
    assert (ioas.huge_pages(), ioas.alignment()) == (1, 1)
    ioas.unmap_all()
    ioas.huge_pages(0)


@rule("ioas.option.huge_pages.then_unaligned")
@pytest.mark.parametrize("what", ["iova", "length", "memory"])
def test_without_huge_pages_areas_are_of_pages(expected, ioas, buffer, page_size, what):
    ioas.huge_pages(0)
    iova = page_size + MOCK_PAGE * (what == "iova")
    length = page_size - MOCK_PAGE * (what == "length")
    with expected:
        ioas.map(buffer.address + MOCK_PAGE * (what == "memory"), length, iova=iova)


@rule("ioas.option.huge_pages.device_later")
def test_device_does_not_lessen_the_alignment(iommufd, ioas, buffer, page_size, base):
    ioas.huge_pages(0)
    device = iommufd.mock_device(ioas)
    with raises_errno(EINVAL):
        ioas.map(buffer, MOCK_PAGE, iova=base)
    device.destroy()
    assert ioas.alignment() == page_size


@rule("ioas.option.huge_pages.unwritable")
def test_huge_pages_cannot_be_written(expected, ioas, unwritable, uapi):
    option, op = uapi.IOMMU_OPTION_HUGE_PAGES, uapi.IOMMU_OPTION_OP_SET
    with expected:
        unwritable("IOMMU_OPTION", option_id=option, op=op, object_id=ioas)
    assert ioas.huge_pages() == 0
