# SPDX-License-Identifier: GPL-2.0-only
"""An open /dev/iommu, and its ioctls."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from errno import ENOTTY
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.iommufd.device import MockDevice
from pytest_iommufd.iommufd.expecting import expecting
from pytest_iommufd.iommufd.fault import FaultQueue
from pytest_iommufd.iommufd.hwpt import Hwpt
from pytest_iommufd.iommufd.ioas import Ioas
from pytest_iommufd.iommufd.viommu import Viommu
from pytest_iommufd.uapi import Struct, errno_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.iommufd.hwpt import UserData
    from pytest_iommufd.machine import Process
    from pytest_iommufd.uapi import Uapi

DEVICE = "/dev/iommu"
# In the arena: a slot for the ioctl's own struct, then data that structs point to.
_STRUCT_ROOM = 1 << 16
_ALIGN = 64


@dataclass
class Call:
    """An ioctl as it was made, for reports; it is put into words only when one is.

    Attributes:
        ioctl: its name.
        argument: its struct, with what the kernel wrote once it has returned; or a bare pointer.
        outcome: "OK", or the errno's name.
    """

    ioctl: str
    argument: Struct | int
    outcome: str = "did not return"

    def __str__(self) -> str:
        shown = f"{self.argument:#x}" if isinstance(self.argument, int) else repr(self.argument)
        return f"{self.ioctl}({shown}) = {self.outcome}"


class IoctlError(OSError):
    """An ioctl failed.

    Attributes:
        ioctl: its name.
        struct: what was given, with what the kernel wrote; None when the pointer was bare.
    """

    def __init__(self, number: int, ioctl: str, struct: Struct | None) -> None:
        super().__init__(number, os.strerror(number))
        self.ioctl = ioctl
        self.struct = struct

    def __str__(self) -> str:
        given = f" with {self.struct!r}" if self.struct is not None else ""
        return f"{self.ioctl}: {errno_name(self.errno or 0)} ({self.strerror}){given}"


class InjectedFailure(Exception):  # noqa: N818 - not an error of the kernel
    """A call failed because a point in it was made to: the test ends, whatever it expects.

    Attributes:
        error: what the call gave.
    """

    def __init__(self, error: IoctlError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Injection:
    """One point of one ioctl that is to fail.

    Attributes:
        at: which ioctl, from 0.
        nth: which point in it, from 1.
        seen: ioctls made so far.
        fired: whether the point was there.
        call: the ioctl, once it is made.
    """

    at: int
    nth: int
    seen: int = 0
    fired: bool = False
    call: Call | None = None

    def take(self, call: Call) -> int:
        """Return which point of the next ioctl must fail, 0 for none."""
        chosen = self.seen == self.at
        self.seen += 1
        if not chosen:
            return 0
        self.call = call
        return self.nth

    def __str__(self) -> str:
        return f"point {self.nth} of ioctl {self.at} failed: {self.call}"


@contextlib.contextmanager
def raises_errno(*expected: int) -> Iterator[list[IoctlError]]:
    """Expect the block's ioctl to fail with an errno; a success or another errno is a failure.

    Args:
        expected: the errno; several only where the source allows several.

    Yields:
        A list that has the error afterwards.
    """
    __tracebackhide__ = True
    names = " or ".join(errno_name(number) for number in expected)
    caught: list[IoctlError] = []
    try:
        with expecting(*map(errno_name, expected)):
            yield caught
    except IoctlError as error:
        if error.errno not in expected:
            raise AssertionError(f"expected {names}, got {error}") from None
        caught.append(error)
    else:
        raise AssertionError(f"expected {names}, but the kernel accepted the call")


class Context:
    """One open /dev/iommu: a set of objects that lives until it is closed.

    The methods are the ioctls by their names in lower case; each takes every field of its struct
    by keyword, `size` included. They raise IoctlError. They do not test what they send: that is
    the kernel's part.

    Args:
        process: who opens it.
        uapi: the kernel's structs.

    Attributes:
        fd: the file descriptor in the process.
        calls: the ioctls made, for reports.
        injection: what fails in the ioctls of any context, None for nothing.
    """

    injection: ClassVar[Injection | None] = None

    def __init__(self, process: Process, uapi: Uapi) -> None:
        self.process = process
        self.uapi = uapi
        self.fd = process.open(DEVICE)
        self.calls: list[Call] = []
        self._data_at = process.arena + _STRUCT_ROOM

    # ---- the ground ----

    def ioctl(
        self,
        name: str,
        /,
        *,
        at: int | None = None,
        tail: bytes = b"",
        data: bytes | None = None,
        write: bool = True,
        fail_nth: int = 0,
        repeat: int = 1,
        seconds: float | None = None,
        **fields: Any,
    ) -> Struct:
        """Make an ioctl with a struct of the kernel's headers, in one round trip.

        Args:
            name: "IOMMU_HWPT_ALLOC", or "hwpt_alloc".
            at: where the struct is written; by default in the process's arena.
            tail: bytes after the struct. `size` counts them, unless it is given.
            data: bytes that are written to the arena too; a field `data_uptr` that is not given
                then points to them.
            write: whether to write the struct at all; without, `at` is a bare pointer.
            fail_nth: make the nth fault injection point in the call fail.
            repeat: how often to call it.
            seconds: a deadline of its own.
            fields: the struct's fields; `size` is right unless it is given.

        Returns:
            The struct with what the kernel wrote.

        Raises:
            IoctlError: the call failed.
            UapiError: no such ioctl or field, or a value that does not fit.
        """
        __tracebackhide__ = True
        ioctl = self.uapi.ioctl(name)
        program = Program()
        if data is not None:
            address = self.put(data, program)
            fields.setdefault("data_uptr", address)
        struct = self.uapi.struct(
            ioctl.struct, **{key: _plain(value) for key, value in fields.items()}
        )
        if "size" not in fields:
            struct["size"] = struct.sizeof + len(tail)
        address = self.process.arena if at is None else at
        # what a size beyond the struct covers is zero, not what an earlier call left there
        content = (bytes(struct) + tail).ljust(min(int(struct["size"]), _STRUCT_ROOM), b"\0")
        if write:
            program.write(address, content)
        made = Call(ioctl.name, struct if write else address)
        self.calls.append(made)
        injection = self.injection if not fail_nth else None
        if injection:
            fail_nth = injection.take(made)
        call = program.syscall(
            "ioctl", self.fd, ioctl.number, address, repeat=repeat, fail_nth=fail_nth
        )
        if write:
            program.read(address, struct.sizeof)
        results = self.process.run(program, seconds=seconds, during=made)
        result = results[call.index]
        if write:
            back = results[-1]
            if results[call.index - 1].errno or back.errno:
                raise MemoryError(f"the struct cannot be at {address:#x}: not mapped")
            struct.load(back.data)
        made.outcome = errno_name(result.errno) if result.errno else "OK"
        hit = injection is not None and result.fail_nth_left == 0
        if injection and hit:
            injection.fired = True
        if result.errno:
            error = IoctlError(result.errno, ioctl.name, struct if write else None)
            raise InjectedFailure(error) if hit else error
        return struct

    def ioctl_pointer(self, name: str, pointer: int) -> None:
        """Make an ioctl with a bare pointer: null, unmapped, or what a test has put there.

        Raises:
            IoctlError: the call failed.
        """
        __tracebackhide__ = True
        self.ioctl(name, at=pointer, write=False)

    def put(self, content: bytes, program: Program | None = None) -> int:
        """Put bytes into the arena, where nothing else comes, and return their address.

        Args:
            content: the bytes.
            program: have this program write them, instead of a round trip of its own.
        """
        address = self._data_at
        end = self.process.arena + self.process.arena_size
        if address + len(content) > end:
            raise MemoryError(f"{len(content)} bytes do not fit into what is left of the arena")
        self._data_at += len(content) + -len(content) % _ALIGN
        if program is None:
            self.process.write(address, content)
        else:
            program.write(address, content)
        return address

    def close(self) -> None:
        """Close the file descriptor; the kernel destroys the objects with the last one."""
        if self.fd >= 0:
            self.process.syscall("close", self.fd)
            self.fd = -1

    def has(self, name: str) -> bool:
        """Tell whether the kernel has an ioctl: one that it lacks gives ENOTTY."""
        if not self.uapi.has(name):
            return False
        number = self.uapi.ioctl(name).number
        zeroes = self.put(bytes(8))
        return self.process.syscall("ioctl", self.fd, number, zeroes).errno != ENOTTY

    # ---- the ioctls ----

    def destroy(self, target: SupportsIndex, **fields: Any) -> None:
        """IOMMU_DESTROY an object."""
        __tracebackhide__ = True
        self.ioctl("IOMMU_DESTROY", **{"id": target.__index__(), **fields})

    def ioas_alloc(self, **fields: Any) -> Ioas:
        """IOMMU_IOAS_ALLOC an I/O address space."""
        __tracebackhide__ = True
        return Ioas(self, self.ioctl("IOMMU_IOAS_ALLOC", **fields).out_ioas_id)

    def hwpt_alloc(
        self,
        device: SupportsIndex,
        pt: SupportsIndex,
        data: UserData | None = None,
        **fields: Any,
    ) -> Hwpt:
        """IOMMU_HWPT_ALLOC a hardware page table.

        Args:
            device: the device whose driver makes it (dev_id).
            pt: the IOAS, parent HWPT or vIOMMU it is made from (pt_id).
            data: type and content of the driver's data, for data_type, data_len, data_uptr.
            fields: any field, in place of what follows from the above; also what ioctl() takes.
                data_type is the struct's hwpt_type where it has that.
        """
        __tracebackhide__ = True
        given: dict[str, Any] = {"dev_id": device, "pt_id": pt}
        if data is not None:
            given |= {"data_type": data.type, "data_len": len(data.content), "data": data.content}
        given |= fields
        if "data_type" in given and not self.uapi.has("iommu_hwpt_alloc.data_type"):
            given["hwpt_type"] = given.pop("data_type")
        struct = self.ioctl("IOMMU_HWPT_ALLOC", **given)
        return Hwpt(self, struct.out_hwpt_id)

    def fault_queue_alloc(self, **fields: Any) -> FaultQueue:
        """IOMMU_FAULT_QUEUE_ALLOC a queue of I/O page faults."""
        __tracebackhide__ = True
        struct = self.ioctl("IOMMU_FAULT_QUEUE_ALLOC", **fields)
        return FaultQueue(self, struct.out_fault_id, struct.out_fault_fd)

    def viommu_alloc(self, device: SupportsIndex, parent: SupportsIndex, **fields: Any) -> Viommu:
        """IOMMU_VIOMMU_ALLOC a virtual IOMMU, of the mock driver's type unless told otherwise."""
        __tracebackhide__ = True
        given: dict[str, Any] = {"dev_id": device, "hwpt_id": parent}
        if "type" not in fields:
            given["type"] = self.uapi.IOMMU_VIOMMU_TYPE_SELFTEST
        struct = self.ioctl("IOMMU_VIOMMU_ALLOC", **(given | fields))
        return Viommu(self, struct.out_viommu_id)

    def test(self, op: str, target: SupportsIndex = 0, **fields: Any) -> Struct:
        """IOMMU_TEST_CMD: an operation of the kernel's iommufd_test.

        Args:
            op: its name without IOMMU_TEST_OP_, in any case.
            target: the object it is about (the struct's id).
            fields: any field.
        """
        __tracebackhide__ = True
        number = getattr(self.uapi, f"IOMMU_TEST_OP_{op.upper()}")
        return self.ioctl("IOMMU_TEST_CMD", **{"op": number, "id": target, **fields})

    def mock_device(self, pt: SupportsIndex, flags: int = 0) -> MockDevice:
        """Make a mock device and attach it to an IOAS or HWPT.

        Args:
            pt: what to attach it to; an IOAS gets a HWPT made for it.
            flags: MOCK_FLAGS_DEVICE_*.
        """
        __tracebackhide__ = True
        if flags:
            made = self.test("mock_domain_flags", pt, mock_domain_flags={"dev_flags": flags})
            out = made.mock_domain_flags
        else:
            out = self.test("mock_domain", pt).mock_domain
        return MockDevice(self, out.out_idev_id, out.out_stdev_id, out.out_hwpt_id)


def _plain(value: Any) -> object:
    return value if isinstance(value, dict) else value.__index__()
