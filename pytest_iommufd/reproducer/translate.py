# SPDX-License-Identifier: GPL-2.0-only
"""From what processes did to a program that does the same.

Numbers that an earlier call gave become what that call gave: ids, file descriptors, IOVAs that the
kernel chose, addresses of mapped memory. All others stay as the test had them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import OpKind
from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.lookahead import LENGTH_ARGUMENT, OPENS, Lookahead
from pytest_iommufd.reproducer.origins import Origins
from pytest_iommufd.reproducer.processes import Processes
from pytest_iommufd.reproducer.structs import TEST_CMD, Structs
from pytest_iommufd.reproducer.trace import CALL, OK, TEARDOWN, outcome
from pytest_iommufd.reproducer.unused import without_unused
from pytest_iommufd.reproducer.values import Handle, Memory, Number, Place, Record, Returned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.machine import Process
    from pytest_iommufd.reproducer.trace import Event, Trace
    from pytest_iommufd.reproducer.values import Space, Value, Variable
    from pytest_iommufd.uapi import Ioctl, Uapi

_U64 = (1 << 64) - 1
_PAGE = 4096
_HUGE_PAGE = 2 << 20
_MAP_FIXED = 0x10
# Where the arena has one ioctl's struct after another; see iommufd/context.py.
_PASSING = 1 << 16
# Where system calls take a file descriptor.
_FILE_ARGUMENT = {"mmap": 4} | dict.fromkeys(
    (
        *("close", "dup", "fallocate", "fcntl", "ftruncate", "getdents64", "ioctl", "lseek"),
        *("pread64", "pwrite64", "read", "write"),
    ),
    0,
)
_OFFSET_ARGUMENT = 5  # of mmap
_READS = {"read", "pread64", "getdents64"}
# Those after which memory has in it what it had.
_KEEPS_BYTES = {"mmap", "munmap", "mprotect", "madvise", "mlock", "munlock", "openat", "write"}
# Those whose value is the same in each run.
_SAME_VALUE = {"ioctl", "write", "ppoll", "pwrite64", "lseek"} | _READS
_STANDARD_FILES = 2
_NAMES = {"memfd_create": "memfd", "eventfd2": "eventfd", "userfaultfd": "uffd"}


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
            if event.phase == CALL and event.is_call and not event.threads:
                event.wants = outcome(event)
    translator = _Translator(uapi, events)
    statements = translator.translate()
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
    """Goes through the events once; what they come to is in `lost` and in the statements.

    Attributes:
        lost: what is not in the statements.
    """

    def __init__(self, uapi: Uapi, events: Sequence[Event]) -> None:
        self.lost: list[str] = []
        self._events = events
        self._structs = Structs(uapi)
        self._ahead = Lookahead(events, self._structs)
        self._origins = Origins(self._structs)
        self._processes = Processes(self.lost)
        self._used: Counter[str] = Counter()
        self._read: set[int] = set()
        # memory and files whose bytes are not of iommufd, and differ from run to run
        self._foreign: set[int] = set()
        self._paths: dict[int, str] = {}
        self._here: list[s.Statement] = []

    def translate(self) -> list[s.Statement]:
        """Return the statements."""
        for index, event in enumerate(self._events):
            space = self._processes.space(event.process)
            if event.op is None:
                self._processes.change(event)
                continue
            self._here = self._processes.place_for(event)
            if event.op.kind is OpKind.SYSCALL:
                if event.is_call:
                    self._call(index, event, space)
            elif event.result is None or not event.result.errno:
                # it was run, and did not tell of a hole on purpose
                self._memory(index, event, space)
        statements = without_unused(self._processes.statements)
        self._place_mappings(statements)
        return statements

    def _place_mappings(self, statements: list[s.Statement]) -> None:
        """Ask for mappings where the test had them, if that can matter."""
        for call in s.calls(statements):
            memory = call.maps
            if memory is None or call.args[0] != Number(0):
                continue
            if self._origins.addresses or memory.size >= _HUGE_PAGE:
                call.args = [Number(memory.address, wide=True), *call.args[1:]]

    def _own(self, variable: Variable, space: Space, name: str = "") -> None:
        """Give a variable its name, and its process."""
        if name:
            self._used[name] += 1
            count = self._used[name]
            variable.name = name if count == 1 else f"{name}_{count}"
        variable.owner, variable.number = space.owner, self._processes.variables
        self._processes.variables += 1

    # ---- memory ----

    def _memory(self, index: int, event: Event, space: Space) -> None:
        assert event.op  # noqa: S101 - for the type checker
        if event.op.kind is OpKind.WRITE:
            self._write(index, event, space)
        elif event.op.kind is OpKind.READ:
            self._look(index, event, space)
        else:
            to, source = (self._origins.argument(arg, space) for arg in event.args)
            self._here.append(s.Copy(to, source, event.op.size))

    def _write(self, index: int, event: Event, space: Space) -> None:
        assert event.op  # noqa: S101
        address, content = event.args[0], event.op.blob
        place = space.place(address)
        name = self._ahead.type_of(index)
        inside = place and not name and place.offset + len(content) <= place.memory.size
        passing = address < event.process.arena + _PASSING
        if _in_arena(event.process, address) and (passing or not inside):
            made = self._record(name, content, space) or self._bytes(index, event, space)
            space.bind(address, made, max(len(content), 1))
        elif place is None:
            self.lost.append(f"Bytes go to {address:#x}, which no call here has mapped.")
        elif record := self._record(name, content, space):
            self._here.append(s.Store(place, record))
        else:
            self._here.append(s.Store(place, None, content, _addresses(content, space)))

    def _record(self, name: str, content: bytes, space: Space) -> Record | None:
        """Declare bytes as a struct; None when its fields do not say all that is in them."""
        size = self._structs.sizeof(name) if name else 0
        if not name or not self._structs.says_all(name, content[:size]):
            return None
        title = name.removeprefix("iommu_")
        if name == TEST_CMD:
            op = self._structs.op(self._structs.load(name, content[:size]))
            title = op.lower() or title
        record = Record("", type=name, size=size, tail=content[size:], content=content)
        self._own(record, space, title)
        record.fields = self._origins.fields(record, space)
        self._here.append(s.Declare(record))
        return record

    def _bytes(self, index: int, event: Event, space: Space) -> Memory:
        """Declare bytes of the program's own: a string, or what a struct points to."""
        assert event.op  # noqa: S101
        content = event.op.blob
        made = Memory("", address=event.args[0], size=len(content), content=content)
        made.text = self._ahead.is_text(index)
        self._own(made, space, "" if made.text else "data")
        if not made.text:
            made.fixups = _addresses(content, space)
            file = space.files.get(int.from_bytes(content[:4], "little"))
            if file is not None and self._ahead.is_polled(index):
                made.fixups.append((0, file))
            self._here.append(s.Declare(made))
        return made

    def _look(self, index: int, event: Event, space: Space) -> None:
        """Compare what the test read, unless it differs from run to run."""
        if index in self._read or event.result is None or event.threads:
            return
        place, content = space.place(event.args[0]), event.result.data
        if place is None or not content or id(place.memory) in self._foreign:
            return
        if not _addresses(content, space):
            self._here.append(s.CompareBytes(place, content))

    # ---- calls ----

    def _call(self, index: int, event: Event, space: Space) -> None:
        assert event.op  # noqa: S101
        name, args = event.call, [arg & _U64 for arg in event.args]
        ioctl = self._structs.ioctl(args[1]) if name == "ioctl" else None
        if ioctl and self._is_question(event, space):
            return
        for arg in args:
            if _in_arena(event.process, arg) and not _fits(event, space.place(arg)):
                self._scratch(index, arg, space)
        call = s.Call(
            name,
            self._title(ioctl, args, space) if name == "ioctl" else f"{name}()",
            self._arguments(name, args, ioctl, space),
            outcome(event),
            wants=event.wants,
            repeat=event.op.repeat,
            fail_nth=event.op.fail_nth,
            free=bool(event.threads),
        )
        self._here.append(call)
        foreign = name in _READS and self._reads_other_file(args[0], space)
        if call.errno == OK and event.result:
            if name in _SAME_VALUE and not foreign:
                call.ret = event.result.ret
            self._returned(call, event.result.ret, args, space)
        if event.result:
            call.fired = event.op.fail_nth > 0 and event.result.fail_nth_left == 0
        if foreign or (ioctl is None and name not in _KEEPS_BYTES | _READS):
            self._foreign |= {id(arg.memory) for arg in call.args if isinstance(arg, Place)}
        if ioctl and len(args) > 2:
            self._written(index, event, call, space)

    def _arguments(
        self, name: str, args: Sequence[int], ioctl: Ioctl | None, space: Space
    ) -> list[Value]:
        values = [self._origins.argument(arg, space) for arg in args]
        at = _FILE_ARGUMENT.get(name, len(args))
        if at < len(args) and (known := space.files.get(args[at])):
            values[at] = known
        if name == "mmap" and args[_OFFSET_ARGUMENT]:
            values[_OFFSET_ARGUMENT] = (
                self._origins.offset(args[_OFFSET_ARGUMENT]) or values[_OFFSET_ARGUMENT]
            )
        if name == "ioctl":
            values[1] = Number(args[1], ioctl.name if ioctl else "")
        return values

    def _title(self, ioctl: Ioctl | None, args: Sequence[int], space: Space) -> str:
        """Return how reports call an ioctl: by its name, or by iommufd_test's operation."""
        if ioctl is None:
            return f"ioctl {args[1]:#x}"
        place = space.place(args[2]) if ioctl.struct == TEST_CMD else None
        record = self._record_at(place) if place else None
        op = self._structs.op(self._structs.load(TEST_CMD, record.content)) if record else ""
        return f"IOMMU_TEST_OP_{op}" if op else ioctl.name

    def _is_question(self, event: Event, space: Space) -> bool:
        """Tell Context.has()'s question from a call of the test, and leave it out.

        It is a struct of eight bytes of zero, which is refused.
        """
        place = space.place(event.args[2]) if len(event.args) > 2 else None
        memory = place.memory if place else None
        if event.wants or outcome(event) == OK or not isinstance(memory, Memory):
            return False
        return not memory.mapped and memory.content == bytes(8)

    def _reads_other_file(self, fd: int, space: Space) -> bool:
        """Tell whether a file is read that is not iommufd's: what is in it differs."""
        path = self._paths.get(id(space.files.get(fd)), "")
        note = f"What the test reads of {path} is not compared."
        if path and note not in self.lost:
            self.lost.append(note)
        return bool(path)

    def _scratch(self, index: int, address: int, space: Space) -> None:
        """Declare memory of the program's own that a call is given, and nobody has written."""
        made = Memory("", address=address, size=self._ahead.room(index, address))
        made.content = bytes(made.size)
        self._own(made, space, "data")
        self._here.append(s.Declare(made))
        space.bind(address, made, made.size)

    # ---- what calls gave ----

    def _returned(self, call: s.Call, ret: int, args: Sequence[int], space: Space) -> None:
        if call.name == "mmap":
            inside = space.place(ret)
            if inside and inside.offset < inside.memory.size and args[3] & _MAP_FIXED:
                return  # a part of other memory is mapped anew
            region = Memory("", address=ret, size=args[1], mapped=True)
            self._own(region, space, "buffer")
            call.maps = region
            space.regions.append(region)
        elif call.name in OPENS or (call.name == "ioctl" and ret > _STANDARD_FILES):
            handle = Handle("")
            path = _path(call)
            known = _NAMES.get(call.name, "fd")
            self._own(handle, space, "file" if path not in ("", "/dev/iommu") else known)
            call.handle, call.ret = handle, None
            made = space.files[ret] = Returned(handle, ret)
            if path != "/dev/iommu":
                self._paths[id(made)] = path

    def _written(self, index: int, event: Event, call: s.Call, space: Space) -> None:
        """Note what the kernel wrote into an ioctl's struct, as far as the test read it."""
        address = event.args[2] & _U64
        place, at = space.place(address), self._ahead.read_after(index, address)
        result = self._events[at].result if at >= 0 else None
        record = self._record_at(place) if place else None
        if place is None or record is None or result is None or len(result.data) < record.size:
            return
        self._read.add(at)
        if isinstance(place.memory, Memory):
            call.fetch = (record, place)
        before = dict(self._structs.leaves(self._structs.load(record.type, record.content)))
        after = self._structs.load(record.type, result.data)
        compared: list[tuple[str, Value]] = []
        for path, value in self._structs.leaves(after):
            if value == before.get(path, 0) or self._origins.note(
                record, after, path, value, space
            ):
                continue
            name = self._structs.names(record.type, path, value)
            wide = self._structs.is_wide(record.type, path)
            compared.append((path, Number(value, name, wide)))
        if compared and not call.free:
            self._here.append(s.Compare(record, compared))

    def _record_at(self, place: Place) -> Record | None:
        """Return the struct at an address of its own, or that was put into mapped memory."""
        if isinstance(place.memory, Record):
            return place.memory if not place.offset else None
        for one in reversed(self._here):
            if isinstance(one, s.Store) and one.record and one.place == place:
                return one.record
        return None


def _in_arena(process: Process, address: int) -> bool:
    return process.arena <= address < process.arena + process.arena_size


def _addresses(content: bytes, space: Space) -> list[tuple[int, Value]]:
    """Return the addresses among bytes, by their offsets."""
    found: list[tuple[int, Value]] = []
    for offset in range(0, len(content) - 7, 8):
        value = int.from_bytes(content[offset : offset + 8], "little")
        if value > _PAGE and (place := space.place(value)):
            found.append((offset, place))
    return found


def _fits(event: Event, place: Place | None) -> bool:
    """Tell whether what is known to be somewhere is what a call is given there."""
    if place is None:
        return False
    memory = place.memory
    if event.call not in LENGTH_ARGUMENT:
        return not (isinstance(memory, Memory) and memory.text) or event.call in OPENS
    at = LENGTH_ARGUMENT[event.call]
    end = place.offset + event.args[at]
    lasts = event.args[at - 1] >= event.process.arena + _PASSING
    if lasts and isinstance(memory, Memory) and not memory.mapped and memory.size < end:
        memory.size = end  # the arena goes on behind it, with zeroes
    return memory.size >= end


def _path(call: s.Call) -> str:
    """Return the name of the file that a call opens, or ""."""
    path = call.args[1] if call.name == "openat" else None
    if isinstance(path, Place) and isinstance(path.memory, Memory):
        return path.memory.content[:-1].decode(errors="replace")
    return ""
