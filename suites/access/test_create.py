# SPDX-License-Identifier: GPL-2.0-only
"""Accesses that come and go, and what that asks of their IOAS."""

from __future__ import annotations

import resource
from errno import EBUSY, EINVAL, ENOENT

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.checks import check_refs

PAGE = 0x1000
PLACE = 0x4000_0000
MOCK_PAGE = 2048
UNKNOWN = 9999
PIN = pytest.mark.parametrize("pin", [False, True], ids=["rw", "pin"])


@rule("access.create.flags")
@pytest.mark.parametrize("bit", [1, 31])
def test_unknown_flag(expected, ioas, bit):
    with expected:
        ioas.create_access(flags=1 | 1 << bit)


@rule("access.create.flags_first")
def test_unknown_flag_is_told_first(expected, iommufd):
    with expected:
        iommufd.test("create_access", UNKNOWN, create_access={"flags": 2})


@rule("access.create.ioas_id")
@PIN
def test_id_of_nothing(expected, iommufd, pin):
    with expected:
        iommufd.test("create_access", UNKNOWN, create_access={"flags": pin})


@rule("access.create.ioas_id.other_type")
@PIN
def test_id_of_a_hwpt(expected, iommufd, auto_hwpt, pin):
    with expected:
        iommufd.test("create_access", auto_hwpt, create_access={"flags": pin})


@rule("access.create.no_descriptor")
def test_no_descriptor_is_left(expected, ioas, process):
    old, new = process.arena, process.arena + 16
    process.write(new, (4).to_bytes(8, "little") + (4096).to_bytes(8, "little"))
    process.checked("prlimit64", 0, resource.RLIMIT_NOFILE, new, old)
    limits = process.read(old, 16)
    with expected:
        ioas.create_access()
    process.write(old, limits[:8] + (4096).to_bytes(8, "little"))
    process.checked("prlimit64", 0, resource.RLIMIT_NOFILE, old, 0)
    ioas.destroy()


@rule("access.create.unwritable")
def test_descriptor_cannot_be_written(expected, ioas, unwritable, uapi):
    with expected:
        unwritable("IOMMU_TEST_CMD", op=uapi.IOMMU_TEST_OP_CREATE_ACCESS, id=ioas)
    ioas.destroy()


@rule("access.create.many")
def test_many_accesses(ioas, buffer, area):
    accesses = [ioas.create_access(pin=bool(number % 2)) for number in range(20)]
    buffer.write(b"all")
    assert {access.read(area, 3) for access in accesses} == {b"all"}


@rule("access.create.holds")
@PIN
def test_access_holds_its_ioas(expected, ioas, pin):
    access = ioas.create_access(pin=pin)
    with expected:
        ioas.destroy()
    access.close()
    ioas.destroy()


@rule("access.create.object")
def test_access_is_an_object_that_is_held(expected, iommufd, ioas):
    access = ioas.create_access()
    with expected:
        iommufd.destroy(ioas.id + 1)
    access.close()
    with raises_errno(ENOENT):
        iommufd.destroy(ioas.id + 1)


@rule("access.create.context_closed_first")
def test_access_outlives_the_descriptor_of_its_context(
    iommufd, ioas, buffer, access, area, process
):
    access.pin(area, PAGE, buffer)
    iommufd.close()
    other = type(iommufd)(process, iommufd.uapi)
    check_refs(other, buffer, PAGE, 1)
    access.close()
    check_refs(other, buffer, PAGE, 0)
    assert ioas.id


@rule("access.pinning.alignment")
@PIN
def test_pinning_access_wants_pages(ioas, page_size, pin):
    access = ioas.create_access(pin=pin)
    assert ioas.alignment() == (page_size if pin else 1)
    access.close()
    assert ioas.alignment() == 1


@rule("access.pinning.alignment_of_the_strictest")
def test_alignment_is_of_who_wants_most(mock_device, ioas, page_size):
    one, other = ioas.create_access(pin=True), ioas.create_access(pin=True)
    one.close()
    assert ioas.alignment() == page_size
    mock_device.destroy()
    assert ioas.alignment() == page_size
    other.close()
    assert ioas.alignment() == 1


@rule("access.pinning.unaligned_area")
@pytest.mark.parametrize(
    ("iova", "length", "offset"), [(0x1800, PAGE, 0), (PAGE, 0x800, 0), (PAGE, PAGE, 0x800)]
)
def test_no_pinning_where_an_area_is_not_of_pages(expected, ioas, buffer, iova, length, offset):
    ioas.map(buffer.address + offset, length, iova=iova)
    with expected:
        ioas.create_access(pin=True)
    ioas.create_access().close()
    assert ioas.alignment() == 1
    ioas.destroy()


@rule("access.pinning.unaligned_map")
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
def test_only_pages_can_be_mapped_then(expected, request, ioas, buffer, access, device):
    if device:
        request.getfixturevalue("mock_device")
    with expected:
        ioas.map(buffer, MOCK_PAGE, iova=PLACE)
    access.close()
    ioas.map(buffer, MOCK_PAGE, iova=PLACE)


@rule("access.pinning.device_gone")
def test_access_does_not_need_the_device(mock_device, buffer, access, area):
    item = access.pin(area, buffer.size, buffer)
    mock_device.destroy()
    check_refs(access.context, buffer, buffer.size, 1)
    access.unpin(item)
    check_refs(access.context, buffer, buffer.size, 0)


# ---- another IOAS ----


@rule("access.replace.moves")
@PIN
def test_access_moves(ioas, other_ioas, buffer, area, pin):
    access = ioas.create_access(pin=pin)
    other_ioas.map(buffer.address + PAGE, PAGE, iova=area)
    buffer.write(b"old")
    buffer.write(b"new", PAGE)
    assert access.read(area, 3) == b"old"
    access.replace(other_ioas)
    assert access.read(area, 3) == b"new"
    ioas.destroy()
    with raises_errno(EBUSY):
        other_ioas.destroy()


@rule("access.replace.alignment")
def test_alignment_moves_along(ioas, other_ioas, access, page_size):
    access.replace(other_ioas)
    assert (ioas.alignment(), other_ioas.alignment()) == (1, page_size)


@rule("access.replace.pinned")
def test_moving_unpins(ioas, other_ioas, buffer, access, area):
    item = access.pin(area, buffer.size, buffer)
    access.replace(other_ioas)
    check_refs(ioas.context, buffer, buffer.size, 0)
    with raises_errno(ENOENT):
        access.unpin(item)
    assert ioas.unmap_all() == buffer.size


@rule("access.replace.same")
def test_moving_to_where_it_is(ioas, buffer, access, area):
    item = access.pin(area, buffer.size, buffer)
    access.replace(ioas)
    check_refs(ioas.context, buffer, buffer.size, 1)
    access.unpin(item)


@rule("access.replace.ioas_id")
def test_moving_to_nothing(expected, buffer, access, area):
    with expected:
        access.replace(UNKNOWN)
    access.unpin(access.pin(area, PAGE, buffer))


@rule("access.replace.ioas_id.other_type")
def test_moving_to_a_hwpt(expected, buffer, access, area, auto_hwpt):
    with expected:
        access.replace(auto_hwpt)
    access.unpin(access.pin(area, PAGE, buffer))


@rule("access.replace.unaligned_area")
def test_moving_to_where_an_area_is_not_of_pages(expected, ioas, other_ioas, buffer, access, area):
    other_ioas.map(buffer, MOCK_PAGE)
    item = access.pin(area, PAGE, buffer)
    with expected:
        access.replace(other_ioas)
    check_refs(ioas.context, buffer, PAGE, 1)
    access.unpin(item)
    other_ioas.destroy()
    with raises_errno(EINVAL):
        ioas.map(buffer, MOCK_PAGE)


@rule("access.replace.refused_stays")
def test_access_that_could_not_move(expected, ioas, other_ioas, buffer, access, area):
    other_ioas.map(buffer, MOCK_PAGE)
    with expected:
        access.replace(other_ioas)
    access.write(area, b"here")
    assert buffer.read(4) == b"here"
    access.unpin(access.pin(area, PAGE, buffer))
    with raises_errno(EBUSY):
        ioas.destroy()
    access.close()
    ioas.destroy()


@rule("access.replace.copied")
def test_pages_stay_where_they_were_copied_to(ioas, other_ioas, buffer, access, area):
    copied = other_ioas.copy(ioas, area, buffer.size)
    access.pin(area, buffer.size, buffer)
    access.replace(other_ioas)
    assert ioas.unmap_all() == buffer.size
    ioas.destroy()
    item = access.pin(copied, buffer.size, buffer)
    check_refs(other_ioas.context, buffer, buffer.size, 1)
    access.unpin(item)


@rule("access.fd")
@pytest.mark.parametrize("op", ["pin", "unpin", "rw", "replace"])
def test_descriptor_is_no_access(expected, iommufd, ioas, access, no_access, op):
    wrong = type(access)(iommufd, no_access)
    with expected:
        if op == "pin":
            wrong.pin(PLACE, PAGE)
        elif op == "unpin":
            wrong.unpin(1)
        elif op == "rw":
            wrong.read(PLACE, 1)
        else:
            wrong.replace(ioas)
