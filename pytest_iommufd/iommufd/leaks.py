# SPDX-License-Identifier: GPL-2.0-only
"""Proves that a test has left nothing behind in the kernel."""

from __future__ import annotations

import os
from errno import EFAULT
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import WORKER_FDS, Program
from pytest_iommufd.given import pack
from pytest_iommufd.iommufd.object import DEVICE
from pytest_iommufd.iommufd.request import Request
from pytest_iommufd.iommufd.together import Together
from pytest_iommufd.machine.process import AT_FDCWD, entry_names
from pytest_iommufd.uapi import errno_name
from pytest_iommufd.uapi.absence import TEST_COMMAND

if TYPE_CHECKING:
    from pytest_iommufd.agent.protocol import Ref, Result
    from pytest_iommufd.iommufd.context import Context
    from pytest_iommufd.iommufd.memory import Buffer
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

# selftest.c registers its devices on a bus of its own
MOCK_DEVICES = "/sys/bus/iommufd_mock/devices"
_FIRST_FD = 3
# More than any test leaves; cookies count from 1. struct iommu_hwpt_pgfault has 40 bytes.
_MOST_FAULTS, _FAULT_SIZE = 32, 40
_LISTING = 4096  # bytes of directory entries; more devices than fit are not told apart


class LeakError(AssertionError):
    """Something is left after a test's contexts were closed."""


class Ledger:
    """What a test's process has opened and mapped, to be settled at its end.

    Attributes:
        process: the process.
        contexts: contexts it opened.
        buffers: memory it mapped.
        together: what its fixtures make.
    """

    def __init__(self, process: Process, uapi: Uapi) -> None:
        self.process = process
        self.together = Together(process)
        self.uapi = uapi
        self.contexts: list[Context] = []
        self.buffers: list[Buffer] = []

    def settle(self, devices: Devices) -> None:
        """Close all files; have the kernel count page references and mock devices.

        One round trip does it all. Other processes that hold the contexts must have been ended.

        Args:
            devices: the mock devices that were there before.

        Raises:
            LeakError: a page is still pinned, or a mock device is left.
        """
        self.process.unsent = None  # a test that ended before it began needs nothing more
        program = Program()
        self._detach_pasids(program)
        self._answer_faults(program)
        # all that the test has opened: a fault queue's file keeps its context, too
        program.syscall("close_range", _FIRST_FD, WORKER_FDS - 1, 0)
        for context in self.contexts:
            context.fd = -1
        counts = bool(self.buffers) and self.uapi.has(TEST_COMMAND)
        checks = self._count_references(program) if counts else {}
        listed = _list_devices(program, self.process)
        results = self.process.run(program, during="closing contexts and looking for leaks")
        # EFAULT: the test has unmapped or protected a part, which cannot be counted then
        left = [
            f"pages of {buffer!r} are still pinned after all contexts were closed "
            f"(MD_CHECK_REFS: {errno_name(results[check.index].errno)})"
            for buffer, check in checks.items()
            if results[check.index].errno not in (0, EFAULT)
        ]
        more = devices.update(_count_devices(results, listed))
        if more > 0:
            left.append(f"{more} mock devices are left in {MOCK_DEVICES}")
        if left:
            raise LeakError("; ".join(left))

    def _detach_pasids(self, program: Program) -> None:
        """The kernel warns of mock devices that go with a PASID attached, and leaks them."""
        for context in self.contexts:
            for device, pasid in context.pasids:
                op = self.uapi.IOMMU_TEST_OP_PASID_DETACH
                fields = {"op": op, "id": device, "pasid_detach": {"pasid": pasid}}
                context.add(program, Request("IOMMU_TEST_CMD", fields))

    def _answer_faults(self, program: Program) -> None:
        """Kernels free what was not answered twice: rules of their own, not each test, see that."""
        files = [queue.fd for each in self.contexts for queue in each.fault_queues if queue.fd >= 0]
        for fd in files:
            program.syscall("read", fd, self.process.arena, _MOST_FAULTS * _FAULT_SIZE)
            for cookie in range(1, _MOST_FAULTS + 1):
                program.write(self.process.arena, pack("<II", cookie, 0))
                program.syscall("write", fd, self.process.arena, 8)

    def _count_references(self, program: Program) -> dict[Buffer, Ref]:
        arena = self.process.arena
        program.write(arena, DEVICE.encode() + b"\0")
        fd = program.syscall("openat", AT_FDCWD, arena, os.O_RDWR, 0)
        command = self.uapi.ioctl("IOMMU_TEST_CMD")
        checks = {}
        for buffer in self.buffers:
            struct = self.uapi.struct(
                command.struct,
                op=self.uapi.IOMMU_TEST_OP_MD_CHECK_REFS,
                check_refs={"length": buffer.size, "uptr": buffer.address, "refs": 0},
            )
            struct["size"] = struct.sizeof
            program.write(arena, bytes(struct))
            checks[buffer] = program.syscall("ioctl", fd, command.number, arena)
        program.syscall("close", fd)
        return checks


class Devices:
    """How many mock devices a kernel has, so that a test is blamed for its own only.

    Args:
        process: one under that kernel, before the first test.
    """

    def __init__(self, process: Process) -> None:
        program = Program()
        listed = _list_devices(program, process)
        results = process.run(program, during=f"listing {MOCK_DEVICES}")
        self._count = _count_devices(results, listed)

    def update(self, count: int) -> int:
        """Take note of a new count; returns how many more they are."""
        more, self._count = count - self._count, count
        return more


def _list_devices(program: Program, process: Process) -> Ref:
    arena = process.arena
    program.write(arena, MOCK_DEVICES.encode() + b"\0")
    fd = program.syscall("openat", AT_FDCWD, arena, os.O_DIRECTORY, 0)
    listed = program.syscall("getdents64", fd, arena, _LISTING)
    program.read(arena, _LISTING)
    program.syscall("close", fd)
    return listed


def _count_devices(results: list[Result], listed: Ref) -> int:
    size = max(0, results[listed.index].ret)  # without sysfs there is nothing to list
    return len(entry_names(results[listed.index + 1].data[:size]))
