# SPDX-License-Identifier: GPL-2.0-only
"""Proves that a test has left nothing behind in the kernel."""

from __future__ import annotations

from errno import EFAULT
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.context import DEVICE
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.context import Context
    from pytest_iommufd.iommufd.memory import Buffer
    from pytest_iommufd.machine import Machine, Process
    from pytest_iommufd.uapi import Uapi

# selftest.c registers its devices on a bus of its own
MOCK_DEVICES = "/sys/bus/iommufd_mock/devices"
_AT_FDCWD = -100
_O_RDWR = 2
_O_DIRECTORY = 0o200000


class LeakError(AssertionError):
    """Something is left after a test's contexts were closed."""


class Ledger:
    """What a test's process has opened and mapped, to be settled at its end.

    Attributes:
        contexts: contexts it opened.
        buffers: memory it mapped and that is still mapped whole.
    """

    def __init__(self, process: Process, uapi: Uapi) -> None:
        self.process = process
        self.uapi = uapi
        self.contexts: list[Context] = []
        self.buffers: list[Buffer] = []

    def settle(self) -> None:
        """Close the contexts, and have the kernel count the references of the buffers' pages.

        Raises:
            LeakError: a page is still pinned.
        """
        program = Program()
        for context in self.contexts:
            if context.fd >= 0:
                program.syscall("close", context.fd)
                context.fd = -1
        checks = []
        if self.buffers:
            arena = self.process.arena
            path = DEVICE.encode() + b"\0"
            program.write(arena, path)
            fd = program.syscall("openat", _AT_FDCWD, arena, _O_RDWR, 0, must=True)
            command = self.uapi.ioctl("IOMMU_TEST_CMD")
            for buffer in self.buffers:
                struct = self.uapi.struct(
                    command.struct,
                    op=self.uapi.IOMMU_TEST_OP_MD_CHECK_REFS,
                    check_refs={"length": buffer.size, "uptr": buffer.address, "refs": 0},
                )
                struct["size"] = struct.sizeof
                program.write(arena, bytes(struct))
                checks.append((buffer, program.syscall("ioctl", fd, command.number, arena)))
            program.syscall("close", fd)
        if not len(program):
            return
        results = self.process.run(program, during="closing contexts and counting page references")
        for buffer, check in checks:
            # EFAULT: the test has unmapped or protected a part, which cannot be counted then
            if results[check.index].errno not in (0, EFAULT):
                raise LeakError(
                    f"pages of {buffer!r} are still pinned after all contexts were closed "
                    f"(MD_CHECK_REFS: {errno_name(results[check.index].errno)})"
                )


class Inspector:
    """Looks from a process of its own, which makes no iommufd call."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._process: Process | None = None
        self._fd = -1
        self._boot = 0
        self._before: int | None = None

    def check_mock_devices(self) -> None:
        """Tell that no mock device is left.

        Raises:
            LeakError: there are some.
        """
        if not self._machine.running:
            return  # nothing outlives the machine
        count = self._count()
        if self._before is None:
            self._before = count
        if count > self._before:
            left, self._before = count - self._before, count
            raise LeakError(f"{left} mock devices are left in {MOCK_DEVICES}")

    def start(self) -> None:
        """Remember how many there are: none, unless this machine's kernel is shared."""
        if self._boot != self._machine.boots or not self._machine.running:
            self._process = None
        if self._process is None:
            self._process = self._machine.process()
            self._boot = self._machine.boots
            try:
                self._fd = self._process.open(MOCK_DEVICES, _O_DIRECTORY)
            except OSError:
                self._fd = -1  # no sysfs: nothing to count
            self._before = self._count()

    @property
    def process(self) -> Process | None:
        """Its process."""
        return self._process

    def _count(self) -> int:
        if self._process is None or self._fd < 0:
            return 0
        process = self._process
        program = Program()
        program.syscall("lseek", self._fd, 0, 0)
        program.syscall("getdents64", self._fd, process.arena, 4096)
        program.read(process.arena, 4096)
        _, listed, content = process.run(program, during=f"listing {MOCK_DEVICES}")
        return sum(
            1 for name in _names(content.data[: max(0, listed.ret)]) if name not in (b".", b"..")
        )


def _names(entries: bytes) -> list[bytes]:
    """Return the names in what getdents64 wrote (struct linux_dirent64)."""
    names = []
    while entries:
        length = int.from_bytes(entries[16:18], "little")
        names.append(entries[19:length].split(b"\0", 1)[0])
        entries = entries[length:]
    return names
