# SPDX-License-Identifier: GPL-2.0-only
"""The wire protocol between pytest and the agent; ``agent.h`` is the other side."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pytest_iommufd.given import Given

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = 1
HEADER = struct.Struct("<IHHI")
MAX_FRAME = 16 << 20
MAX_WORKERS = 256
WORKER_FDS = 1000  # a worker's own descriptors are from here on
NO_STATUS = 0xFFFFFFFF

# an op with as many arguments as its place here tells
_OPS = [struct.Struct("<BBHIII" + count * "IIQ") for count in range(7)]
_RESULT = struct.Struct("<qIIQ")
_MUST = 1
_U64 = (1 << 64) - 1


class FrameType(enum.IntEnum):
    """What a frame asks or answers; ``enum frame_type`` in agent.h."""

    SPAWN = 1
    FORK = 2
    RUN = 3
    PARALLEL = 4
    END = 5
    LOG = 6
    HELLO = 64
    SPAWNED = 65
    RESULT = 66
    DIED = 67
    ENDED = 68
    LOGGED = 69
    KMSG = 70
    ERROR = 71


class OpKind(enum.IntEnum):
    """What an op does; ``enum op_kind`` in agent.h."""

    SYSCALL = 1
    WRITE = 2
    READ = 3
    COPY = 4


@dataclass(frozen=True)
class Frame:
    """One frame: a request of the host or an answer of the agent."""

    type: FrameType
    worker: int = 0
    sequence: int = 0
    payload: bytes = b""

    def __bytes__(self) -> bytes:
        return HEADER.pack(len(self.payload), self.type, self.worker, self.sequence) + self.payload


@dataclass(frozen=True)
class Ref:
    """What an earlier op of the same program returned, plus an offset."""

    index: int
    offset: int = 0

    def __add__(self, offset: int) -> Ref:
        return Ref(self.index, self.offset + offset)


Argument = int | Ref


class Result(NamedTuple):
    """What one op gave.

    Attributes:
        ret: the call's return value, -1 on error.
        errno: the error number, 0 on success; ECANCELED when an earlier op stopped the program.
        ns: nanoseconds spent in the call, measured in the guest (of a repeated one, the first).
        data: the bytes of a read.
        times: nanoseconds of each call of a repeated one.
        fail_nth_left: the fault injection countdown after the call; 0 when the fault has fired.
    """

    ret: int
    errno: int
    ns: int
    data: bytes = b""
    times: tuple[int, ...] = ()
    fail_nth_left: int | None = None


class Op(NamedTuple):
    """One op of a program; Program's methods tell what its arguments are.

    Attributes:
        kind: which of the methods made it.
        args: the arguments.
        call: of a system call, its name or number.
        size: of the others, bytes.
        blob: the bytes of a write.
        must: whether the ops after it are not run when it fails.
        repeat: how often it is called.
        fail_nth: which fault injection point in it must fail, 0 for none.
        made_of: what the host made it of, for observers; an ioctl has its iommufd Call.
    """

    kind: OpKind
    args: tuple[Argument, ...]
    call: str | int = 0
    size: int = 0
    blob: bytes = b""
    must: bool = False
    repeat: int = 1
    fail_nth: int = 0
    made_of: object = None


@dataclass
class Program:
    """A list of ops that one process runs in one round trip.

    Attributes:
        aside: whether it only asks what the kernel has, which is no part of what a test does.
    """

    _ops: list[Op] = field(default_factory=list)
    aside: bool = False

    @property
    def ops(self) -> tuple[Op, ...]:
        """What it consists of."""
        return tuple(self._ops)

    def _add(self, op: Op) -> Ref:
        self._ops.append(op)
        return Ref(len(self._ops) - 1)

    def syscall(
        self,
        call: str | int,
        *args: Argument,
        must: bool = False,
        repeat: int = 1,
        fail_nth: int = 0,
        made_of: object = None,
    ) -> Ref:
        """Add a system call.

        Args:
            call: its name, such as "ioctl", or its number.
            args: at most six, each a number or a Ref to an earlier op's return value.
            must: when it fails, the ops after it are not run (their errno is ECANCELED).
            repeat: how often to call it; Result.times has each call's nanoseconds.
            fail_nth: make the nth fault injection point in it fail; 0 injects nothing.
            made_of: what the host makes it of, for observers.

        Returns:
            A reference to its return value, for the arguments of later ops.
        """
        return self._add(
            Op(
                OpKind.SYSCALL,
                args,
                call,
                must=must,
                repeat=repeat,
                fail_nth=fail_nth,
                made_of=made_of,
            )
        )

    def write(self, where: Argument, data: bytes, *, must: bool = True) -> Ref:
        """Add a write of bytes to the process's memory."""
        return self._add(Op(OpKind.WRITE, (where,), size=len(data), blob=data, must=must))

    def read(self, where: Argument, size: int) -> Ref:
        """Add a read of the process's memory, in bytes; Result.data has them."""
        return self._add(Op(OpKind.READ, (where,), size=size))

    def copy(self, to: Argument, source: Argument, size: int) -> Ref:
        """Add a copy in the process's memory, in bytes."""
        return self._add(Op(OpKind.COPY, (to, source), size=size, must=True))

    def fail(self, index: int, nth: int) -> None:
        """Have the nth fault injection point in a system call of it fail."""
        self._ops[index] = self._ops[index]._replace(fail_nth=nth)

    def encode(self, numbers: Mapping[str, int]) -> bytes:
        """Make the bytes that the agent reads.

        Args:
            numbers: system call numbers by name, as the agent gave them.

        Raises:
            ValueError: a system call's name is not among them.
        """
        parts = [struct.pack("<II", len(self._ops), 0)]
        for op in self._ops:
            aux = op.size
            if op.kind is OpKind.SYSCALL:
                aux = op.call if isinstance(op.call, int) else _number(op.call, numbers)
            args: list[int] = []
            for arg in op.args:
                if isinstance(arg, Ref):
                    args += 1, arg.index, arg.offset & _U64
                else:
                    args += 0, 0, arg & _U64
            layout, must = _OPS[len(op.args)], _MUST * op.must
            head = (op.kind, len(op.args), must, aux, op.repeat, op.fail_nth)
            parts += layout.pack(*head, *args), op.blob, bytes(-len(op.blob) % 8)
        return b"".join(parts)

    def decode(self, payload: memoryview) -> tuple[list[Result], memoryview]:
        """Read this program's results; returns them and the bytes after them."""
        results = []
        at = 0
        for op in self._ops:
            ret, errno, extra, ns = _RESULT.unpack_from(payload, at)
            at += _RESULT.size
            results.append(_result(op, ret, errno, ns, bytes(payload[at : at + extra])))
            at += extra + -extra % 8
        return results, payload[at:]

    def __len__(self) -> int:
        return len(self._ops)


def _number(name: str, numbers: Mapping[str, int]) -> int:
    try:
        return numbers[name]
    except KeyError:
        raise ValueError(
            f"the agent has no system call {name!r}; it has {', '.join(sorted(numbers))} "
            "(SYSCALLS in agent.c), or pass the call's number"
        ) from None


def _result(op: Op, ret: int, errno: int, ns: int, extra: bytes) -> Result:
    if op.kind is not OpKind.SYSCALL:
        return Result(ret, errno, ns, data=extra)
    ret = Given(ret)
    times: list[int] = []
    left = None
    while extra:
        if op.fail_nth:
            left = int.from_bytes(extra[:4], "little")
            extra = extra[4:]
        if op.repeat > 1:
            times.append(int.from_bytes(extra[:8], "little"))
            extra = extra[8:]
    return Result(ret, errno, ns, times=tuple(times), fail_nth_left=left)


def parallel(programs: Iterable[bytes]) -> bytes:
    """Join encoded programs into the payload of a PARALLEL request."""
    encoded = list(programs)
    return struct.pack("<I", len(encoded)) + b"".join(
        struct.pack("<I", len(program)) + program for program in encoded
    )


@dataclass(frozen=True)
class Hello:
    """What the agent says of itself and of its machine when it starts.

    Attributes:
        release, version, machine: as uname has them.
        page_size: bytes.
        cpus: processors online.
        kmsg: whether it can read the kernel log.
        numbers: system call numbers by name.
        layout: sizeof and offsetof that it was compiled with; see Uapi.layout_source().
        complaints: what went wrong while the guest was prepared, such as a module refused.
    """

    release: str
    version: str
    machine: str
    page_size: int
    cpus: int
    kmsg: bool
    numbers: Mapping[str, int]
    layout: Mapping[str, int]
    complaints: tuple[str, ...]

    @classmethod
    def parse(cls, payload: bytes) -> Hello:
        """Read a HELLO frame's payload.

        Raises:
            ValueError: another version of the protocol, or no such lines.
        """
        values = dict(
            line.split("=", 1) for line in payload.decode(errors="replace").splitlines() if line
        )
        if values.get("protocol") != str(VERSION):
            raise ValueError(f"the agent speaks protocol {values.get('protocol')}, not {VERSION}")

        def under(prefix: str) -> dict[str, str]:
            start = len(prefix)
            return {key[start:]: text for key, text in values.items() if key.startswith(prefix)}

        return cls(
            release=values["release"],
            version=values["version"],
            machine=values["machine"],
            page_size=int(values["page_size"]),
            cpus=int(values["cpus"]),
            kmsg=values["kmsg"] == "1",
            numbers={name: int(number) for name, number in under("nr.").items()},
            layout={name: int(number) for name, number in under("layout.").items()},
            complaints=tuple(
                f"{key}: {text}"
                for key, text in values.items()
                if key.startswith(("module.", "mount."))
            ),
        )


def parse_spawned(payload: bytes) -> tuple[int, Given, int]:
    """Read a SPAWNED frame's payload: pid, address and size in bytes of the arena."""
    pid, size, address = struct.unpack("<IIQ", payload)
    return pid, Given(address), size


def parse_status(payload: bytes) -> int | None:
    """Read the wait status of a DIED or ENDED frame; None when nobody knows it."""
    (status,) = struct.unpack("<I", payload)
    return None if status == NO_STATUS else int(status)
