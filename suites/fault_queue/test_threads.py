# SPDX-License-Identifier: GPL-2.0-only
"""Several threads at one queue."""

from __future__ import annotations

import struct
from errno import EINVAL
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.eventfile import READABLE, WRITABLE
from pytest_iommufd.iommufd.request import Request

from .conftest import RECORD, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.agent.protocol import Ref
    from pytest_iommufd.iommufd import Context, MockDevice
    from pytest_iommufd.uapi import Uapi

THREADS, EACH = 4, 8
pytestmark = pytest.mark.no_fail_nth("threads make the calls, not the test itself")


@pytest.fixture
def trigger(iommufd: Context, uapi: Uapi) -> Callable[..., None]:
    """Has a program make a device fault."""

    def add(program: Program, device: MockDevice, addr: int) -> None:
        fields = {"dev_id": device, "addr": addr}
        command = {"op": uapi.IOMMU_TEST_OP_TRIGGER_IOPF, "trigger_iopf": fields}
        iommufd.add(program, Request("IOMMU_TEST_CMD", command), must=True)

    return add


@rule("fault_queue.threads.trigger")
def test_threads_fault(iommufd, attached, trigger, faults):
    programs = [Program() for _ in range(THREADS)]
    for thread, program in enumerate(programs):
        for number in range(EACH):
            trigger(program, attached, thread * EACH + number)
    iommufd.process.run_parallel(programs)
    got = faults(THREADS * EACH + 1)
    assert sorted(one.addr for one in got) == list(range(THREADS * EACH))


@rule("fault_queue.threads.read")
def test_threads_read(iommufd, attached, fault, fault_file):
    for addr in range(THREADS * EACH):
        fault(attached, addr=addr)
    programs = [Program() for _ in range(THREADS)]
    reads: list[list[Ref]] = []
    for program in programs:
        buffer = iommufd.put(bytes(EACH * RECORD))
        reads.append([])
        for number in range(EACH):
            at = buffer + number * RECORD
            program.syscall("read", fault_file.fd, at, RECORD, must=True)
            reads[-1].append(program.read(at, RECORD))
    results = iommufd.process.run_parallel(programs)
    records = [
        struct.unpack("<6IQII", own[read.index].data)
        for own, thread in zip(results, reads, strict=True)
        for read in thread
    ]
    assert sorted(record[6] for record in records) == list(range(THREADS * EACH))
    assert sorted(record[8] for record in records) == list(range(1, THREADS * EACH + 1))


@rule("fault_queue.threads.answer")
def test_threads_answer_the_same_fault(iommufd, attached, fault, fault_file):
    fault(attached)
    fault_file.read(RECORD)
    at = iommufd.put(answer(1))
    programs = [Program() for _ in range(THREADS)]
    calls = [program.syscall("write", fault_file.fd, at, 8) for program in programs]
    results = iommufd.process.run_parallel(programs)
    made = [own[call.index] for own, call in zip(results, calls, strict=True)]
    given = sorted((one.ret, one.errno) for one in made)
    assert given == [(-1, EINVAL)] * (THREADS - 1) + [(8, 0)]


@rule("fault_queue.threads.poll")
def test_thread_that_polls_is_woken(iommufd, attached, trigger, fault_file):
    waiter, other = Program(), Program()
    buffer = iommufd.put(pack("<iHHqq", fault_file.fd, READABLE, 0, 5, 0))
    call = waiter.syscall("ppoll", buffer, 1, buffer + 8, 0, 0)
    trigger(other, attached, 0)
    woken, _ = iommufd.process.run_parallel([waiter, other])
    assert woken[call.index].ret == 1
    assert woken[call.index].ns < 4_000_000_000


@rule("fault_queue.threads.replace")
def test_thread_moves_the_device_while_others_read_and_answer(
    iommufd, uapi, attached, ioas, fault, fault_file
):
    for addr in range(EACH):
        fault(attached, addr=addr)
    programs = [Program() for _ in range(3)]
    command = {"op": uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, "id": attached.selftest}
    command |= {"mock_domain_replace": {"pt_id": ioas}}
    moved = iommufd.add(programs[0], Request("IOMMU_TEST_CMD", command))
    for program in programs[1:]:
        buffer = iommufd.put(bytes(RECORD))
        for _ in range(EACH):
            program.syscall("read", fault_file.fd, buffer, RECORD)
            program.syscall("write", fault_file.fd, buffer + RECORD - 4, 8)
    moved.take(iommufd.process.run_parallel(programs)[0]).check()
    assert fault_file.poll() == WRITABLE
