# SPDX-License-Identifier: GPL-2.0-only
"""A trace that no kernel has made: what a process does, with results that say what they are told.

Numbers of system calls and errnos are those of x86-64.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from pytest_iommufd.agent.protocol import Program, Result
from pytest_iommufd.given import Given
from pytest_iommufd.iommufd.expecting import expecting
from pytest_iommufd.reproducer import script
from pytest_iommufd.reproducer.trace import CALL, Trace
from pytest_iommufd.uapi import Struct, Uapi

if TYPE_CHECKING:
    from pytest_iommufd.machine import Process

UAPI = next(uapi for uapi in Uapi.shipped() if uapi.name == "7.3")
ARENA, BUFFER, FILE = Given(0x7F00_0000_0000), Given(0x7F11_0000_0000), Given(3)
HEADER = script.Header(
    slug="suite.rule",
    says="A rule.",
    sources=["file.c:function"],
    kernel="7.3, release 7.3.4, a tree",
    result="passed",
    command="pytest --rule suite.rule",
    file="suite.rule-7.3.c",
)


@dataclass
class FakeProcess:
    """As much of a process as a trace needs."""

    arena: Given = ARENA
    arena_size: int = 1 << 20
    numbers: dict[str, int] = field(
        default_factory=lambda: {"ioctl": 16, "mmap": 9, "openat": 257, "read": 0}
    )


def ok(ret: int = 0, data: bytes = b"") -> Result:
    return Result(ret, 0, 0, data)


def failed(number: int) -> Result:
    return Result(-1, number, 0)


class Recorder:
    """Puts together a trace."""

    def __init__(self) -> None:
        self.trace = Trace()
        self.process = cast("Process", FakeProcess())

    def run(self, program: Program, *results: Result, process: Process | None = None) -> None:
        taken = self.trace.runs(process or self.process, [program])
        if results:
            assert len(results) == len(program)
            taken.append(list(results))

    def open(self) -> None:
        self.opens("/dev/iommu", FILE)

    def opens(self, path: str, file: Given) -> None:
        program = Program()
        program.write(ARENA, path.encode() + b"\0")
        program.syscall("openat", -100, ARENA, 0x80002, 0)
        self.run(program, ok(), ok(file))

    def map(self, size: int) -> None:
        program = Program()
        program.syscall("mmap", 0, size, 3, 0x21, -1, 0)
        self.run(program, ok(BUFFER))

    def ioctl(self, name: str, result: Result | None, out: dict[str, Any], **given: Any) -> Struct:
        """Record an ioctl and return its struct; no result is one that did not return."""
        command = UAPI.ioctl(name)
        before = UAPI.struct(command.struct, **given)
        before["size"] = before.sizeof
        program = Program()
        program.write(ARENA, bytes(before))
        made_of = SimpleNamespace(ioctl=name)
        program.syscall("ioctl", FILE, command.number, ARENA, made_of=made_of)
        program.read(ARENA, before.sizeof)
        after = bytes(before.replace(**out))
        self.run(program, *([ok(), result, ok(data=after)] if result else []))
        return before.load(after)

    def setup(self) -> None:
        self.open()
        self.map(0x2000)
        self.ioas_id = self.ioctl("IOMMU_IOAS_ALLOC", ok(), {"out_ioas_id": 1}).out_ioas_id
        made = self.ioctl(
            "IOMMU_TEST_CMD",
            ok(),
            {"mock_domain": {"out_stdev_id": 2, "out_hwpt_id": 3, "out_idev_id": 4}},
            op=UAPI.IOMMU_TEST_OP_MOCK_DOMAIN,
            id=self.ioas_id,
        )
        self.device_id = made.mock_domain.out_idev_id
        self.trace.phase = CALL

    def refused_map(self) -> None:
        """The call that a rule is about: memory that wraps."""
        with expecting("EOVERFLOW"):
            self.ioctl(
                "IOMMU_IOAS_MAP",
                failed(errno.EOVERFLOW),
                {},
                flags=6,
                ioas_id=self.ioas_id,
                user_va=BUFFER + 0x1000,
                length=(1 << 64) - 1,
            )


def small() -> Trace:
    recorder = Recorder()
    recorder.setup()
    recorder.refused_map()
    return recorder.trace
