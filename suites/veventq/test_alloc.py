# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a vEVENTQ, and its file without events."""

from __future__ import annotations

import os
from errno import EFAULT, EMFILE

import pytest

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import EVENT, OTHER_DRIVERS

UNKNOWN = [0, 9999, 0x7FFF_FFFF, 0xFFFF_FFFF]
NO_VIOMMUS = ["ioas", "parent_hwpt", "viommu_hwpt", "mock_device", "vdevice", "fault_queue"]
DEEPEST = 1 << 19
F_GETFD, FD_CLOEXEC = 1, 1


@rule("veventq.size.below_minimum")
def test_size_below_the_minimum(expected, viommu):
    for size in [0, 4, 24, 27]:
        with expected:
            viommu.veventq_alloc(size=size)


@rule("veventq.size.without_reserved")
@pytest.mark.parametrize("size", [28, 31, 32])
def test_size_without_the_reserved_field(viommu, size):
    assert viommu.veventq_alloc(size=size).fd >= 0


@rule("veventq.size.tail_zero")
def test_tail_of_zeroes(viommu):
    with viommu.context.sending(tail=bytes(8)):
        assert viommu.veventq_alloc().fd >= 0


@rule("veventq.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, viommu):
    with expected, viommu.context.sending(tail=b"\0\0\0\1"):
        viommu.veventq_alloc()


@rule("veventq.flags")
def test_flag(expected, viommu):
    flags = spare_flags(viommu.context.uapi, "iommu_veventq_alloc.flags")
    for flag in [flags[0], flags[1], flags[-1]]:
        with expected:
            viommu.veventq_alloc(flags=flag)


@rule("veventq.reserved")
def test_reserved_is_not_zero(expected, viommu):
    for value in [1, 1 << 31]:
        with expected:
            viommu.veventq_alloc(__reserved=value)


@rule("veventq.type.default")
def test_type_zero(expected, viommu):
    with expected:
        viommu.veventq_alloc(type=0)


@rule("veventq.flags.first")
def test_flags_are_looked_at_first(expected, viommu):
    flag = spare_flags(viommu.context.uapi, "iommu_veventq_alloc.flags")[0]
    for fields in [{"flags": flag}, {"__reserved": 1}, {"type": 0}]:
        with expected:
            viommu.veventq_alloc(0, viommu_id=0, **fields)


@rule("veventq.depth")
def test_depth_out_of_range(expected, viommu):
    for depth in [0, DEEPEST + 1, 0xFFFF_FFFF]:
        made = None
        with expected:
            made = viommu.veventq_alloc(depth)
        if made:  # there can be one of the type: it must not be in the way of the next
            made.close()
            made.destroy()


@rule("veventq.depth.before_id")
def test_depth_is_looked_at_before_the_id(expected, viommu):
    for depth in [0, DEEPEST + 1]:
        with expected:
            viommu.veventq_alloc(depth, viommu_id=0)


@rule("veventq.depth.in_range")
@pytest.mark.parametrize("depth", [1, DEEPEST])
def test_depth_in_range(viommu, depth):
    assert viommu.veventq_alloc(depth).fd >= 0


@rule("veventq.viommu_id.names_nothing")
def test_viommu_id_names_nothing(expected, viommu):
    for number in UNKNOWN:
        with expected:
            viommu.veventq_alloc(viommu_id=number)


@rule("veventq.viommu_id.other_type")
def test_viommu_id_of_another_type(expected, viommu, request):
    for kind in NO_VIOMMUS:
        wrong = request.getfixturevalue(kind)
        with expected:
            viommu.veventq_alloc(viommu_id=wrong)


@rule("veventq.viommu_id.destroyed")
def test_viommu_id_of_a_destroyed_viommu(expected, viommu):
    viommu.destroy()
    with expected:
        viommu.veventq_alloc()


@rule("veventq.type.any")
def test_any_type(expected, viommu):
    for number in [77, 0xFFFF_FFFF]:
        with expected:
            viommu.veventq_alloc(type=number)


@rule("veventq.type.twice")
def test_second_queue_of_a_type(expected, viommu, veventq):
    with expected:
        viommu.veventq_alloc()
    veventq.close()
    veventq.destroy()
    viommu.destroy()


@rule("veventq.type.each")
@pytest.mark.usefixtures("veventq")
def test_queue_of_each_type(expected, viommu):
    for number in OTHER_DRIVERS:
        with expected:
            viommu.veventq_alloc(type=number)


@rule("veventq.type.again")
def test_queue_of_a_type_again(viommu, veventq):
    veventq.close()
    veventq.destroy()
    assert viommu.veventq_alloc().fd >= 0


@rule("veventq.type.per_viommu")
def test_queue_of_a_type_for_each_viommu(iommufd, mock_device, other_parent, veventq):
    other = iommufd.viommu_alloc(mock_device, other_parent).veventq_alloc()
    assert other.id != veventq.id


@rule("veventq.fd.close_on_exec")
def test_file_is_closed_on_exec(event_file):
    assert event_file.call("fcntl", F_GETFD) == FD_CLOEXEC


@rule("veventq.fd.name")
def test_file_has_a_name(veventq, process, iommufd):
    path = iommufd.put(f"/proc/self/fd/{veventq.fd}\0".encode())
    at = iommufd.put(bytes(64))
    size = process.checked("readlinkat", 0, path, at, 64)
    assert process.read(at, size) == b"anon_inode:[iommufd-viommu-event]"


@rule("veventq.fd.none_free")
def test_no_free_file_descriptor(expected, viommu, no_free_fd):
    no_free_fd()
    with expected:
        viommu.veventq_alloc()
    viommu.destroy()


@rule("veventq.undone.type_free")
def test_type_of_a_failed_call_is_free(iommufd, viommu, no_free_fd):
    first = iommufd.ioas_alloc()
    no_free_fd()
    for _ in range(2):
        with raises_errno(EMFILE):
            viommu.veventq_alloc()
    assert iommufd.ioas_alloc().id == first.id + 1


@rule("veventq.undone.unwritable")
def test_id_cannot_be_told(expected, unwritable, uapi, viommu):
    number = uapi.IOMMU_VEVENTQ_TYPE_SELFTEST
    with expected:
        unwritable("IOMMU_VEVENTQ_ALLOC", viommu_id=viommu, type=number, veventq_depth=1)
    again = viommu.veventq_alloc()
    again.close()
    again.destroy()
    viommu.destroy()


@rule("veventq.undone.fd_reused")
def test_file_descriptor_of_a_failed_call_is_free(unwritable, iommufd, process, viommu):
    free = process.checked("dup", iommufd.fd)
    process.checked("close", free)
    number = iommufd.uapi.IOMMU_VEVENTQ_TYPE_SELFTEST
    with raises_errno(EFAULT):
        unwritable("IOMMU_VEVENTQ_ALLOC", viommu_id=viommu, type=number, veventq_depth=1)
    assert process.checked("dup", iommufd.fd) == free


@rule("veventq.failure.lookup")
def test_lookup_fails(expected, viommu):
    with expected, viommu.context.sending(fail_nth=1):
        viommu.veventq_alloc()
    viommu.destroy()


@rule("veventq.failure.memory")
@pytest.mark.parametrize("nth", [2, 3])
def test_no_memory(expected, viommu, nth):
    with expected, viommu.context.sending(fail_nth=nth):
        viommu.veventq_alloc()
    viommu.destroy()


# ---- the file without events ----


@rule("veventq.poll.empty")
def test_poll_of_an_empty_queue(event_file):
    assert event_file.poll() == 0


@rule("veventq.seek")
def test_seek(expected, event_file):
    for whence in [os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]:
        with expected:
            event_file.call("lseek", 0, whence)


@rule("veventq.read_at")
def test_read_at_an_offset(expected, iommufd, event_file):
    for offset in [0, 8]:
        at = iommufd.put(bytes(EVENT))
        with expected:
            event_file.call("pread64", at, EVENT, offset)


@rule("veventq.read.empty")
def test_read_of_an_empty_queue(event_file):
    for size in [8, 11, 12, 64]:
        assert event_file.read(size) == b""


@rule("veventq.read.below_header")
def test_read_of_less_than_a_header(expected, event_file):
    for size in [0, 1, 7]:
        with expected:
            event_file.read(size)


@rule("veventq.write")
def test_write(expected, event_file):
    for size in [0, 8, 12]:
        with expected:
            event_file.write(bytes(size))


# ---- what holds it ----


@rule("veventq.lifetime.file")
def test_open_file_holds_the_queue(expected, veventq):
    with expected:
        veventq.destroy()
    veventq.close()
    veventq.destroy()


@rule("veventq.lifetime.viommu")
def test_queue_holds_its_viommu(expected, viommu, veventq):
    veventq.close()
    with expected:
        viommu.destroy()
    veventq.destroy()
    viommu.destroy()


@rule("veventq.lifetime.context")
def test_file_outlives_the_context(iommufd, event_file):
    iommufd.close()
    assert event_file.read(EVENT) == b""
