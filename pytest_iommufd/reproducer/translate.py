# SPDX-License-Identifier: GPL-2.0-only
"""From what processes did to a program that does the same.

Numbers that remember an earlier call become what that call gave. All others stay as they were.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import OpKind
from pytest_iommufd.given import Given, Packed, given_in
from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.origins import Origins
from pytest_iommufd.reproducer.processes import Processes
from pytest_iommufd.reproducer.structs import TEST_CMD, Structs
from pytest_iommufd.reproducer.trace import CALL, OK, TEARDOWN, outcome
from pytest_iommufd.reproducer.values import Handle, Memory, Number, Out, Place, Record, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.machine import Process
    from pytest_iommufd.reproducer.processes import Space
    from pytest_iommufd.reproducer.trace import Event, Trace
    from pytest_iommufd.reproducer.values import Value, Variable
    from pytest_iommufd.uapi import Uapi

_HUGE_PAGE = 2 << 20
# Lines of /proc/PID/status that iommufd changes.
_COUNTS = re.compile(rb"^(?:VmLck|VmPin):.*\n", re.MULTILINE)
_TEXT = re.compile(rb"[ -~]+\0")
# Where system calls take the name of a file.
_NAME_ARGUMENT = {"openat": 1, "memfd_create": 0, "readlinkat": 1}
# Where they take memory that they write to; its length is the next argument.
_READS = {"read": 1, "pread64": 1, "getdents64": 1, "readlinkat": 2}
# Where they take bytes; their length is the next argument.
_WRITES = {"write": 1, "pwrite64": 1}
# Those after which memory has in it what it had.
_KEEPS_BYTES = {"mmap", "munmap", "mprotect", "madvise", "mlock", "munlock", "openat", "write"}
# Those whose value is the same in each run.
_SAME_VALUE = {"ioctl", "write", "ppoll", "pwrite64", "lseek", "read", "pread64", "getdents64"}
_NAMES = {"memfd_create": "memfd", "eventfd2": "eventfd", "userfaultfd": "uffd"}
# Fields for numbers that a kernel chooses as it likes.
_CHOSEN = re.compile(r"(id|fd|iova|mmap_offset)$")


@dataclass(frozen=True)
class Failure:
    """How a test failed.

    Attributes:
        verdict: one of the BY_ constants of script.py.
        text: in words.
        errno: of an ioctl that the test did not expect to fail, its errno.
    """

    verdict: str
    text: str
    errno: str = ""


def translate(trace: Trace, uapi: Uapi, failure: Failure | None, phase: str = CALL) -> s.Script:
    """Make a program of a trace.

    Args:
        trace: what the test did.
        uapi: the structs of the kernel that it ran on.
        failure: how it failed, None when it passed.
        phase: the phase of the test that ended it; what came later is left out.
    """
    events = [event for event in trace.events() if phase == TEARDOWN or event.phase != TEARDOWN]
    if failure:
        _blame(events, failure)
    elif not trace.judges:
        for event in events:
            if event.phase == CALL and event.is_call and not event.parallel:
                event.wants = outcome(event)
    translator = _Translator(uapi)
    statements = translator.translate(events)
    if failure:
        return s.Script(statements, failure.verdict, failure.text, translator.lost)
    return s.Script(statements, s.BY_CALLS, lost=translator.lost)


def _blame(events: list[Event], failure: Failure) -> None:
    """Find the call that the test did not expect to fail, where it is that which failed it."""
    if failure.verdict != s.BY_CALLS or not failure.errno:
        return
    for event in reversed(events):
        if event.is_call and outcome(event) == failure.errno:
            event.wants = event.wants or OK
            return


class _Translator:
    """Goes through the events once; `lost` has what is not in the statements."""

    def __init__(self, uapi: Uapi) -> None:
        self.lost: list[str] = []
        self._structs = Structs(uapi)
        self._origins = Origins()
        self._processes = Processes(self.lost)
        # of the event that it is at
        self._here: list[s.Statement] = []
        self._process: Process
        self._space: Space

    def translate(self, events: Sequence[Event]) -> list[s.Statement]:
        """Return the statements."""
        for event in events:
            self._process, self._space = event.process, self._processes.space(event.process)
            if event.op is None:
                self._processes.change(event)
                continue
            self._here = self._processes.place_for(event)
            if event.op.kind is OpKind.SYSCALL:
                if event.is_call:
                    self._call(event)
            elif event.result is None or not event.result.errno:
                # it was run, and did not tell of a hole on purpose
                self._memory(event)
        statements = [s.Declare(self._origins.arena), *self._processes.statements]
        s.tidy(statements)
        return statements

    def _own(self, variable: Variable) -> None:
        """Give a variable its process."""
        variable.owner, variable.number = self._space.owner, self._processes.variables
        self._processes.variables += 1

    def _value(self, number: int, names: str = "") -> Value:
        return self._origins.value(number, self._process, self._space, names)

    # ---- memory ----

    def _memory(self, event: Event) -> None:
        assert event.op  # noqa: S101 - for the type checker
        if event.op.kind is OpKind.WRITE:
            self._write(event.args[0], event.op.blob)
        else:
            self._look(event)

    def _write(self, address: int, content: bytes) -> None:
        place, offset = self._value(address), self._origins.in_arena(address, self._process)
        if not isinstance(place, Place):
            self.lost.append(f"Bytes go to {address:#x}, which no call here has mapped.")
        elif offset is not None and not self._is_part(place, content):
            self._space.put(offset, self._record(content) or self._bytes(content))
        elif record := self._record(content):
            place.memory.records[place.offset] = record
            self._here.append(s.Store(place, record))
        else:
            place.memory.records.pop(place.offset, None)
            self._here.append(s.Store(place, None, content, self._fixups(content)))

    def _is_part(self, place: Place, content: bytes) -> bool:
        """Tell whether bytes in the arena are a part of bytes that are there."""
        memory, size = place.memory, len(content)
        if not _is_bytes(memory) or memory is self._origins.arena or _TEXT.fullmatch(content):
            return False
        return size < memory.size and place.offset + size <= memory.size

    def _fixups(self, content: bytes) -> list[tuple[int, Value]]:
        values = [(offset, self._value(number)) for offset, number in given_in(content).items()]
        return [(offset, value) for offset, value in values if not isinstance(value, Number)]

    def _declare(self, memory: Memory) -> None:
        self._own(memory)
        self._here.append(s.Declare(memory))

    def _bytes(self, content: bytes) -> Memory:
        """Declare bytes of the program's own."""
        made = Memory("data", size=len(content), content=content, fixups=self._fixups(content))
        self._declare(made)
        return made

    def _record(self, content: bytes) -> Record | None:
        """Declare bytes as the struct that they are; None when its fields do not say it all."""
        struct = content.struct if isinstance(content, Packed) else None
        if struct is None or not self._structs.says_all(struct.name, content[: struct.sizeof]):
            return None
        name, size = struct.name, struct.sizeof
        title = name.removeprefix("iommu_")
        if name == TEST_CMD:
            title = self._structs.op(content).lower() or title
        made = Record(
            title,
            size=len(content),
            content=content,
            type=name,
            tail=content[size:],
            leaves=self._structs.leaves(name, content),
        )
        given = given_in(content)
        for offset, (path, value) in made.leaves.items():
            if value:
                noted = given.get(offset, value)
                number = noted if noted == value else value
                made.fields.append(
                    (path, self._value(number, self._structs.names(name, path, value)))
                )
        self._say_sizes(made)
        self._declare(made)
        self._origins.note(struct, made)
        return made

    @staticmethod
    def _say_sizes(record: Record) -> None:
        """Have sizes of what is in the program be those."""
        fields = dict(record.fields)
        data = fields.get("data_uptr")
        behind = data.record if isinstance(data, Place) else None
        for path, one in ("size", record), ("argsz", record), ("data_len", behind):
            if one and fields.get(path) == Number(one.size):
                fields[path] = Size(one)
        record.fields = list(fields.items())

    def _look(self, event: Event) -> None:
        """Compare what the test read, unless it differs from run to run."""
        place = self._value(event.args[0])
        if not isinstance(place, Place) or event.result is None:
            return
        content, record = event.result.data, place.record
        size = record.size - len(record.tail) if record else 0
        if record and len(content) >= size:
            if record is not place.memory:
                self._here.append(s.Copy(Place(record), place, size))
            self._written(record, content, compare=not event.parallel)
        elif event.parallel:
            return
        elif place.memory.foreign:
            self._here += [s.CompareLine(place, line) for line in _COUNTS.findall(content)]
        elif content:
            self._here.append(s.CompareBytes(place, content))

    def _written(self, record: Record, content: bytes, *, compare: bool) -> None:
        """Take note of what the kernel wrote into a struct, and compare what no later call uses."""
        before, record.leaves = record.leaves, self._structs.leaves(record.type, content)
        compared: list[tuple[str, Value]] = []
        for offset, (path, value) in record.leaves.items():
            if before.get(offset) != (path, value) and not _CHOSEN.search(path):
                names = self._structs.names(record.type, path, value)
                compared.append((path, Number(value, names)))
        if compared and compare:
            self._here.append(s.Compare(record, compared))

    # ---- calls ----

    def _call(self, event: Event) -> None:
        assert event.op  # noqa: S101
        name, args = event.call, event.args
        ioctl = ""
        if name == "ioctl":
            ioctl = getattr(event.op.made_of, "ioctl", "") or self._structs.command(args[1])
        self._make_room(name, args)
        values = [self._value(arg - (1 << 64) if arg >> 63 == 1 else arg) for arg in args]
        if name == "ioctl":
            values[1] = Number(args[1], ioctl)
        path = self._path(name, values)
        foreign = name in _READS and self._reads_other_file(values[0])
        call = s.Call(
            name,
            self._title(ioctl, values) if name == "ioctl" else f"{name}()",
            values,
            outcome(event),
            wants=event.wants,
            repeat=event.op.repeat,
            fail_nth=event.op.fail_nth,
            free=event.parallel,
        )
        self._here.append(call)
        if event.result:
            call.fired = event.op.fail_nth > 0 and event.result.fail_nth_left == 0
        if event.result and call.errno == OK:
            self._returned(call, event.result.ret, path)
            if name in _SAME_VALUE and not foreign:
                call.ret = event.result.ret
        if foreign or (not ioctl and name not in _KEEPS_BYTES | set(_READS)):
            for value in values:
                if isinstance(value, Place):
                    value.memory.foreign = True

    def _make_room(self, name: str, args: Sequence[int]) -> None:
        """See that a system call is given memory that is as large as it is told."""
        for index, arg in enumerate(args if name != "ioctl" else ()):
            offset = self._origins.in_arena(arg, self._process)
            found = None if offset is None else self._space.at(offset)
            if offset is None or not found or _NAME_ARGUMENT.get(name) == index:
                continue
            memory, within = found
            sized = index in (_READS.get(name), _WRITES.get(name))
            end = within + args[index + 1] if sized else 0
            if name in _WRITES and _is_bytes(memory):
                memory.size = max(memory.size, end)  # the arena goes on behind it, with zeroes
            elif name not in _WRITES and (end > memory.size or not _is_bytes(memory)):
                del self._space.arena[offset - within]

    def _path(self, name: str, values: Sequence[Value]) -> str:
        """Return the name of the file that a call takes, which is then a string; or ""."""
        place = values[_NAME_ARGUMENT[name]] if name in _NAME_ARGUMENT else None
        if not isinstance(place, Place) or not _TEXT.fullmatch(place.memory.content):
            return ""
        place.memory.text, place.memory.name = True, ""
        return place.memory.content[:-1].decode()

    def _title(self, ioctl: str, values: Sequence[Value]) -> str:
        """Return how reports call an ioctl: by its name, or by iommufd_test's operation."""
        place = values[2] if len(values) > 2 else None
        record = place.record if isinstance(place, Place) else None
        op = self._structs.op(record.content) if record and record.type == TEST_CMD else ""
        return f"IOMMU_TEST_OP_{op}" if op else ioctl or f"ioctl {values[1].value:#x}"

    def _reads_other_file(self, file: Value) -> bool:
        """Tell whether a file is read that is not iommufd's: what is in it differs."""
        handle = file.variable if isinstance(file, Out) else None
        if not isinstance(handle, Handle) or not handle.path:
            return False
        but = ", but for VmLck and VmPin" * handle.path.endswith("/status")
        note = f"What the test reads of {handle.path} is not compared{but}."
        if note not in self.lost:
            self.lost.append(note)
        return True

    def _returned(self, call: s.Call, ret: int, path: str) -> None:
        """Have a variable for what a call returned; it goes if nothing uses it."""
        made: Handle | Memory
        if call.name == "mmap":
            made = call.maps = Memory("buffer", size=call.args[1].value, mapped=True)
            if made.size >= _HUGE_PAGE and call.args[0] == Number(0):
                call.args[0] = Number(int(ret))  # where it lies within a huge page can matter
        else:
            other = path if call.name == "openat" and path != "/dev/iommu" else ""
            name = "file" if other else _NAMES.get(call.name, "fd")
            made = call.handle = Handle(name, path=other)
        self._own(made)
        if isinstance(ret, Given):
            self._origins.note(ret.source, made)


def _is_bytes(memory: Memory) -> bool:
    return not memory.text and not isinstance(memory, Record)
