# SPDX-License-Identifier: GPL-2.0-only
"""Which calls make a fault queue, and its file without faults."""

from __future__ import annotations

import os
from errno import EFAULT, EMFILE

from pytest_iommufd import raises_errno, rule
from pytest_iommufd.iommufd.eventfile import WRITABLE
from pytest_iommufd.uapi.spare import spare_flags

from .conftest import RECORD, answer

F_GETFD, F_GETFL, FD_CLOEXEC = 1, 3, 1


@rule("fault_queue.size.below_minimum")
def test_size_below_the_minimum(expected, iommufd):
    for size in [0, 4, 12, 15]:
        with expected:
            iommufd.fault_queue_alloc(size=size)


@rule("fault_queue.size.tail_zero")
def test_tail_of_zeroes(iommufd):
    with iommufd.sending(tail=bytes(8)):
        assert iommufd.fault_queue_alloc().fd >= 0


@rule("fault_queue.size.tail_nonzero")
def test_tail_that_is_not_zero(expected, iommufd):
    with expected, iommufd.sending(tail=b"\0\0\0\1"):
        iommufd.fault_queue_alloc()


@rule("fault_queue.flags")
def test_flag(expected, iommufd):
    flags = spare_flags(iommufd.uapi, "iommu_fault_alloc.flags")
    for flag in [flags[0], flags[1], flags[-1]]:
        with expected:
            iommufd.fault_queue_alloc(flags=flag)


@rule("fault_queue.several")
def test_several_queues(iommufd):
    made = [iommufd.fault_queue_alloc() for _ in range(3)]
    assert len({queue.id for queue in made}) == 3
    assert len({queue.fd for queue in made}) == 3


@rule("fault_queue.fd.close_on_exec")
def test_file_is_closed_on_exec(fault_file):
    assert fault_file.call("fcntl", F_GETFD) == FD_CLOEXEC


@rule("fault_queue.fd.read_and_write")
def test_file_is_for_reading_and_writing(fault_file):
    assert fault_file.call("fcntl", F_GETFL) & os.O_ACCMODE == os.O_RDWR


@rule("fault_queue.fd.name")
def test_file_has_a_name(fault_queue, process, iommufd):
    path = iommufd.put(f"/proc/self/fd/{fault_queue.fd}\0".encode())
    at = iommufd.put(bytes(64))
    size = process.checked("readlinkat", 0, path, at, 64)
    assert process.read(at, size) == b"anon_inode:[iommufd-pgfault]"


@rule("fault_queue.fd.none_free")
def test_no_free_file_descriptor(expected, iommufd, no_free_fd):
    no_free_fd()
    with expected:
        iommufd.fault_queue_alloc()


@rule("fault_queue.undone.id_reused")
def test_id_of_a_failed_call_is_given_again(iommufd, no_free_fd):
    first = iommufd.ioas_alloc()
    no_free_fd()
    with raises_errno(EMFILE):
        iommufd.fault_queue_alloc()
    assert iommufd.ioas_alloc().id == first.id + 1


@rule("fault_queue.undone.unwritable")
def test_id_cannot_be_told(expected, iommufd, unwritable):
    first = iommufd.ioas_alloc()
    with expected:
        unwritable("IOMMU_FAULT_QUEUE_ALLOC")
    assert iommufd.ioas_alloc().id == first.id + 1


@rule("fault_queue.undone.fd_reused")
def test_file_descriptor_of_a_failed_call_is_free(iommufd, process, unwritable):
    free = process.checked("dup", iommufd.fd)
    process.checked("close", free)
    with raises_errno(EFAULT):
        unwritable("IOMMU_FAULT_QUEUE_ALLOC")
    assert process.checked("dup", iommufd.fd) == free


@rule("fault_queue.failure.memory")
def test_no_memory(expected, iommufd):
    first = iommufd.ioas_alloc()
    with expected, iommufd.sending(fail_nth=1):
        iommufd.fault_queue_alloc()
    assert iommufd.ioas_alloc().id == first.id + 1


# ---- the file without faults ----


@rule("fault_queue.poll.empty")
def test_poll_of_an_empty_queue(fault_file):
    assert fault_file.poll() == WRITABLE


@rule("fault_queue.seek")
def test_seek(expected, fault_file):
    for whence in [os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]:
        with expected:
            fault_file.call("lseek", 0, whence)


@rule("fault_queue.read_at")
def test_read_and_write_at_an_offset(expected, iommufd, fault_file):
    for offset in [0, 40]:
        for call in ["pread64", "pwrite64"]:
            at = iommufd.put(bytes(RECORD))
            with expected:
                fault_file.call(call, at, RECORD, offset)


@rule("fault_queue.read.empty")
def test_read_of_an_empty_queue(fault_file):
    for faults in [0, 1, 2, 50]:
        assert fault_file.read(faults * RECORD) == b""


@rule("fault_queue.read.length")
def test_read_of_another_length(expected, fault_file):
    for length in [1, 8, 39, 41, 79]:
        with expected:
            fault_file.read(length)


@rule("fault_queue.write.nothing")
def test_write_of_nothing(fault_file):
    assert fault_file.write(b"") == 0


@rule("fault_queue.write.length")
def test_write_of_another_length(expected, fault_file):
    for length in [1, 7, 9, 15]:
        with expected:
            fault_file.write(bytes(length))


@rule("fault_queue.write.unreadable")
def test_write_of_what_cannot_be_read(expected, fault_file, unmapped):
    with expected:
        fault_file.write(bytes(8), at=unmapped)


@rule("fault_queue.write.unknown_cookie")
def test_write_of_an_unknown_cookie(expected, fault_file):
    for cookie in [0, 1, 99, 0xFFFF_FFFF]:
        for code in [0, 1]:
            with expected:
                fault_file.write(answer(cookie, code=code))


# ---- what holds it ----


@rule("fault_queue.lifetime.file")
def test_open_file_holds_the_queue(expected, fault_queue):
    with expected:
        fault_queue.destroy()
    fault_queue.close()
    fault_queue.destroy()


@rule("fault_queue.lifetime.each_file")
def test_duplicate_holds_the_queue(expected, fault_queue, process):
    second = process.checked("dup", fault_queue.fd)
    fault_queue.close()
    with expected:
        fault_queue.destroy()
    process.checked("close", second)
    fault_queue.destroy()


@rule("fault_queue.lifetime.hwpt")
def test_hwpt_holds_the_queue(expected, fault_queue, iopf_hwpt):
    fault_queue.close()
    with expected:
        fault_queue.destroy()
    iopf_hwpt.destroy()
    fault_queue.destroy()


@rule("fault_queue.lifetime.context")
def test_file_outlives_the_context(expected, iommufd, fault_file, ioas):
    assert ioas.id
    iommufd.close()
    assert fault_file.read(RECORD) == b""
    with expected:
        fault_file.write(answer(1))
