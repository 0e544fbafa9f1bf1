# SPDX-License-Identifier: GPL-2.0-only
"""What IOMMU_TEST_CMD refuses: tests rely on its operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.request import Request

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Context, Hwpt, Ioas, MockDevice

PAGE = 4096
MOCK_PAGE = 2048
UNKNOWN = 9999
MAX = 0xFFFF_FFFF_FFFF_FFFF
TOO_LONG = (16 << 20) + 1
WRITE, SYZ = 1, 1 << 16
CACHE_DEFAULT = 0xBADDAD


@pytest.fixture
def mapped(iommufd: Context, ioas: Ioas, mock_device: MockDevice, buffer: Buffer) -> int:
    """Where the buffer is mapped in the IOAS of a device."""
    assert mock_device.id
    return ioas.map(buffer, iova=iommufd.uapi.MOCK_APERTURE_START)


@pytest.fixture
def access(iommufd: Context, ioas: Ioas) -> int:
    """The file of an access that pins pages."""
    made = iommufd.test("create_access", ioas, create_access={"flags": 1})
    return int(made.create_access.out_access_fd)


@pytest.fixture
def dirty(iommufd: Context, mock_device: MockDevice, ioas: Ioas) -> Hwpt:
    """A HWPT whose dirty tracking is on."""
    uapi = iommufd.uapi
    made = iommufd.hwpt_alloc(mock_device, ioas, flags=uapi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    enable = uapi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE
    iommufd.ioctl("IOMMU_HWPT_SET_DIRTY_TRACKING", hwpt_id=made, flags=enable)
    return made


@rule("generic.test_cmd.unknown_op")
def test_unknown_operation(expected, iommufd):
    last = max(iommufd.uapi.names_of("iommu_test_cmd.op").values())
    for op in (0, last + 1, 0xFFFF_FFFF):
        with expected:
            iommufd.ioctl("IOMMU_TEST_CMD", op=op)


# ---- ADD_RESERVED and mock devices ----


def reserve(iommufd: Context, target: Any, start: int, length: int) -> None:
    """ADD_RESERVED."""
    iommufd.test("add_reserved", target, add_reserved={"start": start, "length": length})


@rule("generic.test_cmd.add_reserved_length")
def test_reserve_nothing(expected, iommufd, ioas):
    with expected:
        reserve(iommufd, ioas, PAGE, 0)


@rule("generic.test_cmd.add_reserved_overflow")
def test_reserve_too_far(expected, iommufd, ioas):
    with expected:
        reserve(iommufd, ioas, MAX, 2)


@rule("generic.test_cmd.add_reserved_ioas")
def test_reserve_in_no_ioas(expected, iommufd, mock_device, auto_hwpt):
    for target in (0, UNKNOWN, mock_device, auto_hwpt):
        with expected:
            reserve(iommufd, target, PAGE, PAGE)


@rule("generic.test_cmd.add_reserved_mapped")
def test_reserve_what_is_mapped(expected, iommufd, ioas, mapped):
    with expected:
        reserve(iommufd, ioas, mapped + PAGE, 1)


@rule("generic.test_cmd.device_flag")
def test_flag_of_a_device(expected, iommufd, ioas):
    known = iommufd.uapi.names_of("iommu_test_cmd.mock_domain_flags.dev_flags").values()
    for flag in {1 << bit for bit in range(32)} - set(known):
        with expected:
            iommufd.mock_device(ioas, flag)


# ---- MD_CHECK_* ----


def check_map(iommufd: Context, target: Any, iova: int, length: int, uptr: int) -> None:
    """MD_CHECK_MAP."""
    fields = {"iova": iova, "length": length, "uptr": uptr}
    iommufd.test("md_check_map", target, check_map=fields)


@rule("generic.test_cmd.check_map")
def test_map_is_found(expected, iommufd, auto_hwpt, buffer, mapped):
    with expected:
        check_map(iommufd, auto_hwpt, mapped, buffer.size, buffer.address)


@rule("generic.test_cmd.check_map_misaligned")
@pytest.mark.parametrize(("iova", "length", "uptr"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_map_of_parts(expected, iommufd, auto_hwpt, buffer, mapped, iova, length, uptr):
    with expected:
        check_map(iommufd, auto_hwpt, mapped + iova, PAGE + length, buffer.address + uptr)


@rule("generic.test_cmd.check_map_overflow")
def test_map_too_far(expected, iommufd, auto_hwpt, mapped):
    with expected:
        check_map(iommufd, auto_hwpt, mapped, PAGE, 2**64 - MOCK_PAGE)


@rule("generic.test_cmd.check_map_differs")
def test_map_of_other_memory(expected, iommufd, auto_hwpt, buffer, mapped):
    for iova in (mapped + PAGE, mapped + buffer.size):
        with expected:
            check_map(iommufd, auto_hwpt, iova, PAGE, buffer.address)


@rule("generic.test_cmd.check_map_unreadable")
def test_map_of_no_memory(expected, iommufd, auto_hwpt, mapped, unmapped):
    with expected:
        check_map(iommufd, auto_hwpt, mapped, PAGE, unmapped)


@rule("generic.test_cmd.check_map_hwpt")
def test_map_in_no_hwpt(expected, iommufd, ioas, nested_hwpt, buffer):
    for target in (0, UNKNOWN, ioas, nested_hwpt):
        with expected:
            check_map(iommufd, target, 0, PAGE, buffer.address)


def check_refs(iommufd: Context, uptr: int, length: int, refs: int = 0) -> None:
    """MD_CHECK_REFS."""
    fields = {"length": length, "uptr": uptr, "refs": refs}
    iommufd.test("md_check_refs", check_refs=fields)


@rule("generic.test_cmd.check_refs_misaligned")
@pytest.mark.parametrize(("length", "uptr"), [(1, 0), (0, 1)])
def test_references_of_parts(expected, iommufd, buffer, length, uptr):
    with expected:
        check_refs(iommufd, buffer.address + uptr, PAGE + length)


@rule("generic.test_cmd.check_refs_overflow")
def test_references_too_far(expected, iommufd):
    with expected:
        check_refs(iommufd, 2**64 - PAGE, 2 * PAGE)


@rule("generic.test_cmd.check_refs_count")
@pytest.mark.usefixtures("mapped")
def test_references_of_another_count(expected, iommufd, buffer):
    check_refs(iommufd, buffer.address, buffer.size, 1)
    for refs in (0, 2):
        with expected:
            check_refs(iommufd, buffer.address, buffer.size, refs)


@rule("generic.test_cmd.check_refs_unreadable")
def test_references_of_no_memory(expected, iommufd, unmapped):
    with expected:
        check_refs(iommufd, unmapped, PAGE)


@rule("generic.test_cmd.check_iotlb")
def test_another_entry(expected, nested_hwpt):
    for entry, value in ((0, 1), (4, 0x5EED)):
        with expected:
            nested_hwpt.check_iotlb(entry, value)


@rule("generic.test_cmd.check_iotlb_hwpt")
def test_entry_of_no_nested_hwpt(expected, iommufd, ioas, auto_hwpt):
    for target in (0, UNKNOWN, ioas, auto_hwpt):
        with expected:
            iommufd.test("md_check_iotlb", target, check_iotlb={"id": 0, "iotlb": 0})


@rule("generic.test_cmd.check_cache")
def test_another_cache_entry(expected, iommufd, mock_device):
    right = {"id": 3, "cache": CACHE_DEFAULT}
    iommufd.test("dev_check_cache", mock_device, check_dev_cache=right)
    for wrong in ({"cache": 1}, {"id": 4}):
        with expected:
            iommufd.test("dev_check_cache", mock_device, check_dev_cache=right | wrong)


@rule("generic.test_cmd.check_cache_device")
def test_cache_of_no_device(expected, iommufd, ioas):
    for target in (0, UNKNOWN, ioas):
        with expected:
            iommufd.test("dev_check_cache", target, check_dev_cache={"id": 0})


# ---- accesses ----


def pages(iommufd: Context, fd: int, iova: int, length: int = PAGE, **fields: int) -> int:
    """ACCESS_PAGES."""
    given = {"iova": iova, "length": length, **fields}
    made = iommufd.test("access_pages", fd, access_pages=given)
    return int(made.access_pages.out_access_pages_id)


def access_rw(iommufd: Context, fd: int, iova: int, uptr: int, length: int, flags: int) -> None:
    """ACCESS_RW."""
    fields = {"iova": iova, "length": length, "uptr": uptr, "flags": flags}
    iommufd.test("access_rw", fd, access_rw=fields)


@rule("generic.test_cmd.create_access_flag")
def test_flag_of_an_access(expected, iommufd):
    for flag in (2, 1 << 31):
        with expected:
            iommufd.test("create_access", UNKNOWN, create_access={"flags": flag})


@rule("generic.test_cmd.create_access_ioas")
def test_access_to_no_ioas(expected, iommufd, mock_device):
    for target in (0, UNKNOWN, mock_device):
        with expected:
            iommufd.test("create_access", target)


@rule("generic.test_cmd.access_fd")
def test_access_by_another_file(expected, iommufd, ioas):
    for fd in (iommufd.fd, 900):
        with expected:
            pages(iommufd, fd, 0)
        with expected:
            access_rw(iommufd, fd, 0, 0, 8, 0)
        with expected:
            iommufd.test("destroy_access_pages", fd)
        with expected:
            iommufd.test("access_replace_ioas", fd, access_replace_ioas={"ioas_id": ioas.id})


@rule("generic.test_cmd.access_too_long")
def test_access_to_too_much(expected, iommufd):
    with expected:
        pages(iommufd, 900, 0, TOO_LONG, flags=2)
    with expected:
        access_rw(iommufd, 900, 0, 0, TOO_LONG, 2)


@rule("generic.test_cmd.access_flag")
def test_access_with_an_unknown_flag(expected, iommufd):
    with expected:
        pages(iommufd, 900, 0, flags=2)
    with expected:
        access_rw(iommufd, 900, 0, 0, 8, 2)


@rule("generic.test_cmd.access_pages_unpinned")
def test_pages_of_an_access_that_does_not_pin(expected, iommufd, ioas, mapped):
    fd = iommufd.test("create_access", ioas).create_access.out_access_fd
    with expected:
        pages(iommufd, fd, mapped)


@rule("generic.test_cmd.access_pages_differ")
def test_pages_of_other_memory(expected, iommufd, access, mapped, buffer):
    pages(iommufd, access, mapped, uptr=buffer.address)
    with expected:
        pages(iommufd, access, mapped, uptr=buffer.address + PAGE)


@rule("generic.test_cmd.access_pages_unreadable")
def test_pages_of_no_memory(expected, iommufd, access, mapped, unmapped):
    with expected:
        pages(iommufd, access, mapped, uptr=unmapped)


@rule("generic.test_cmd.access_rw_buffer")
@pytest.mark.parametrize("flags", [0, WRITE])
def test_access_with_a_bad_buffer(expected, iommufd, access, mapped, unmapped, flags):
    with expected:
        access_rw(iommufd, access, mapped, unmapped, 8, flags)


@rule("generic.test_cmd.access_syz")
@pytest.mark.usefixtures("mapped")
def test_access_by_number(expected, iommufd, access, buffer):
    buffer.write(b"bytes", PAGE)
    at = iommufd.put(bytes(8))
    with expected:
        access_rw(iommufd, access, PAGE << 32, at, 5, SYZ)
    assert iommufd.process.read(at, 5) == b"bytes"


@rule("generic.test_cmd.access_syz_missing")
@pytest.mark.usefixtures("mapped")
def test_access_by_a_number_too_high(expected, iommufd, access):
    with expected:
        access_rw(iommufd, access, 7, iommufd.put(bytes(8)), 5, SYZ)


@rule("generic.test_cmd.access_item")
def test_item_of_no_access(expected, iommufd, access):
    with expected:
        iommufd.test("destroy_access_pages", access, destroy_access_pages={"access_pages_id": 7})


@rule("generic.test_cmd.access_replace_ioas")
def test_access_moves_to_no_ioas(expected, iommufd, access, mock_device):
    for target in (UNKNOWN, mock_device.id):
        with expected:
            fields = {"ioas_id": target}
            iommufd.test("access_replace_ioas", access, access_replace_ioas=fields)


@rule("generic.test_cmd.memory_limit")
@pytest.mark.parametrize("limit", [0, 11])
def test_memory_limit(expected, iommufd, limit):
    with expected:
        iommufd.test("set_temp_memory_limit", memory_limit={"limit": limit})


# ---- DIRTY ----


def set_dirty(iommufd: Context, target: Any, **fields: int) -> None:
    """DIRTY."""
    given = {"iova": 0, "length": PAGE, "page_size": MOCK_PAGE, **fields}
    iommufd.test("dirty", target, dirty=given)


@rule("generic.test_cmd.dirty_operands")
def test_dirty_operands(expected, iommufd, dirty, buffer):
    right = {"uptr": buffer.address}
    set_dirty(iommufd, dirty, **right)
    for wrong in ({"page_size": 0}, {"length": 0}, {"iova": 1}, {"length": 1}, {"uptr": 0}):
        with expected:
            set_dirty(iommufd, dirty, **(right | wrong))


@rule("generic.test_cmd.dirty_too_many")
def test_too_many_dirty_pages(expected, iommufd, buffer):
    length = ((1 << 27) + 1) * MOCK_PAGE
    with expected:
        set_dirty(iommufd, UNKNOWN, length=length, uptr=buffer.address)


@rule("generic.test_cmd.dirty_hwpt")
def test_dirty_in_no_hwpt(expected, iommufd, ioas, nested_hwpt, buffer):
    for target in (0, UNKNOWN, ioas, nested_hwpt):
        with expected:
            set_dirty(iommufd, target, uptr=buffer.address)


@rule("generic.test_cmd.dirty_off")
def test_dirty_without_tracking(expected, iommufd, auto_hwpt, unmapped):
    with expected:
        set_dirty(iommufd, auto_hwpt, uptr=unmapped)


@rule("generic.test_cmd.dirty_unreadable")
def test_dirty_bitmap_cannot_be_read(expected, iommufd, dirty, unmapped):
    with expected:
        set_dirty(iommufd, dirty, uptr=unmapped)


# ---- faults, PASIDs, dma-bufs ----


@rule("generic.test_cmd.iopf_device")
def test_fault_of_no_device(expected, iommufd, ioas):
    for target in (0, UNKNOWN, ioas.id):
        with expected:
            iommufd.test("trigger_iopf", trigger_iopf={"dev_id": target})


@rule("generic.test_cmd.iopf_nowhere")
def test_fault_that_nobody_gets(expected, iommufd, mock_device):
    with expected:
        iommufd.test("trigger_iopf", trigger_iopf={"dev_id": mock_device.id})


@rule("generic.test_cmd.pasid_check_hwpt")
def test_pasid_on_another_hwpt(expected, iommufd, mock_device, auto_hwpt):
    fields = {"pasid": 1, "hwpt_id": auto_hwpt.id}
    with expected:
        iommufd.test("pasid_check_hwpt", mock_device.selftest, pasid_check=fields)


@rule("generic.test_cmd.pasid_check_unknown")
def test_pasid_on_no_hwpt(expected, iommufd, mock_device):
    for target, hwpt in ((mock_device.selftest, UNKNOWN), (UNKNOWN, 0)):
        with expected:
            iommufd.test("pasid_check_hwpt", target, pasid_check={"pasid": 1, "hwpt_id": hwpt})


@rule("generic.test_cmd.pasid_check_detached")
def test_pasid_that_is_not_attached(expected, iommufd, mock_device):
    with expected:
        iommufd.test("pasid_check_hwpt", mock_device.selftest, pasid_check={"pasid": 1})


@rule("generic.test_cmd.dmabuf_length")
@pytest.mark.parametrize("length", [0, (2 << 20) + 1])
def test_dmabuf_length(expected, iommufd, length):
    with expected:
        iommufd.test("dmabuf_get", dmabuf_get={"length": length})


@rule("generic.test_cmd.dmabuf_returns_zero")
def test_dmabuf_gets_a_descriptor(expected, iommufd):
    fd = iommufd.process.checked("dup", iommufd.fd)
    iommufd.process.checked("close", fd)
    with expected:
        iommufd.test("dmabuf_get", dmabuf_get={"length": PAGE})
    iommufd.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": fd, "revoked": 1})
    iommufd.process.checked("close", fd)


@rule("generic.test_cmd.dmabuf_descriptor")
def test_dmabuf_descriptor_is_returned(expected, iommufd, uapi):
    op = uapi.IOMMU_TEST_OP_DMABUF_GET
    call = iommufd.send(Request("IOMMU_TEST_CMD", {"op": op, "dmabuf_get": {"length": PAGE}}))
    with expected:
        iommufd.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": call.result.ret, "revoked": 1})


@rule("generic.test_cmd.dmabuf_revoke_closed")
def test_revoke_of_no_descriptor(expected, iommufd):
    with expected:
        iommufd.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": 900})


@rule("generic.test_cmd.dmabuf_revoke_other")
def test_revoke_of_another_file(expected, iommufd):
    with expected:
        iommufd.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": iommufd.fd})
