# SPDX-License-Identifier: GPL-2.0-only
"""A script as a syzkaller program: one call a line, structs by position.

The form is that of syzkaller's docs/program_syntax.md and prog/encoding.go; names are those of its
sys/linux/dev_iommu.txt. Of what that describes, those calls are used whose structs are known to
agree with the kernel's. Every other ioctl is a plain one whose struct is bytes with ids among them.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.trace import OK
from pytest_iommufd.reproducer.unfit import Unfit
from pytest_iommufd.reproducer.values import (
    Handle,
    Memory,
    Number,
    Out,
    Place,
    Record,
    Returned,
    Size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_iommufd.reproducer.values import Value
    from pytest_iommufd.uapi import Uapi

_WIDTH = 98
# syzkaller's own memory, which programs name by addresses from here on, and where mappings go.
_BASE = 0x7F00_0000_0000
_MAPPED = 0x40_0000
_END = 0x100_0000
_ALIGN, _PAGE, _HUGE_PAGE = 0x40, 0x1000, 0x20_0000
_MAP_FIXED = 0x10
_AT_FDCWD = 0xFFFF_FFFF_FFFF_FF9C
_U64 = (1 << 64) - 1

# Calls by their ioctl, or the operation of IOMMU_TEST_CMD, with their structs' fields.
_DESCRIBED = {
    "IOMMU_DESTROY": ("size", "id"),
    "IOMMU_HWPT_ALLOC": (
        *("size", "flags", "dev_id", "pt_id", "out_hwpt_id", "__reserved", "data_type"),
        *("data_len", "data_uptr"),
    ),
    "IOMMU_IOAS_ALLOC": ("size", "flags", "out_ioas_id"),
    "IOMMU_IOAS_COPY": (
        *("size", "flags", "dst_ioas_id", "src_ioas_id", "length", "dst_iova", "src_iova"),
    ),
    "IOMMU_IOAS_UNMAP": ("size", "ioas_id", "iova", "length"),
    "IOMMU_TEST_OP_ADD_RESERVED": (
        *("size", "op", "id", "__reserved", "add_reserved.start", "add_reserved.length"),
    ),
    "IOMMU_TEST_OP_MOCK_DOMAIN": (
        *("size", "op", "id", "__reserved", "mock_domain.out_stdev_id"),
        *("mock_domain.out_hwpt_id", "mock_domain.out_idev_id"),
    ),
    "IOMMU_TEST_OP_CREATE_ACCESS": (
        *("size", "op", "id", "__reserved", "create_access.out_access_fd", "create_access.flags"),
    ),
    "IOMMU_TEST_OP_DESTROY_ACCESS_PAGES": (
        *("size", "op", "id", "__reserved", "destroy_access_pages.access_pages_id"),
    ),
}
_DESTROYS = {"out_ioas_id": "ioas", "out_hwpt_id": "hwpt", "out_stdev_id": "stdev"}


def program(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a syzkaller program.

    Raises:
        Unfit: it has several processes, or more memory than syzkaller has.
    """
    writer = _Writer(uapi)
    body: list[str] = []
    for one in script.statements:
        body += writer.lines(one)
    head = [
        f"{header.slug}: {header.says}" if header.says else header.slug,
        *([f"Source: {'; '.join(header.sources)}"] if header.sources else []),
        f"Kernel: {header.kernel}",
        f"Test: {header.result}",
        "Ids that syzkaller has no description for are numbers, as they were in the test.",
        *(f"NOT CARRIED OVER: {lost}" for lost in [*script.lost, *writer.lost]),
    ]
    comment = [
        f"# {part}"
        for line in head
        for part in textwrap.wrap(line, _WIDTH, break_long_words=False, subsequent_indent="  ")
    ]
    return "\n".join([*comment, "", *body, ""])


class _Writer:
    def __init__(self, uapi: Uapi) -> None:
        self._uapi = uapi
        self._at = 0
        self._next_map = _MAPPED
        self._places: dict[int, int] = {}
        self._contents: dict[int, bytes] = {}
        self._outs: dict[tuple[int, str], str] = {}
        self._handles: dict[int, str] = {}
        self._count = 0
        self._async = False
        self.lost: list[str] = []

    def lines(self, one: s.Statement) -> Iterator[str] | list[str]:
        if isinstance(one, s.Fork | s.Turn | s.Kill):
            raise Unfit("the test uses several processes; see the C form")
        if isinstance(one, s.Call):
            return self._call(one)
        if isinstance(one, s.Declare):
            if isinstance(one.variable, Memory):
                self._contents[id(one.variable)] = one.variable.content
            return []
        if isinstance(one, s.Store):
            self._lose("bytes that the test writes to mapped memory")
        elif isinstance(one, s.Threads):
            self._lose("that threads start together: each call is (async)")
            self._async = True
            return [line for thread in one.threads for step in thread for line in self.lines(step)]
        return []

    def _lose(self, what: str) -> None:
        if what not in self.lost:
            self.lost.append(what)

    # ---- calls ----

    def _call(self, one: s.Call) -> list[str]:
        text = self._text(one)
        if text is None:
            self._lose(f"{one.name}()")
            return [f"# {one.name}(), which the test calls here, is left out"]
        if one.handle and not text.startswith("r"):
            text = f"{self._new_handle(one.handle)} = {text}"
        properties = [f"fail_nth: {one.fail_nth}"] if one.fail_nth else []
        properties += ["async"] if self._async else []
        if properties:
            text += f" ({', '.join(properties)})"
        note = []
        if not one.returned:
            note = ["# did not return:"]
        elif one.wants:
            note = [f"# wants {one.wants}, gave {one.errno}:"]
        elif one.errno != OK:
            note = [f"# gave {one.errno}:"]
        return [*note, *([text] * min(one.repeat, 2))]

    def _text(self, one: s.Call) -> str | None:
        """Write a call; None for one that there are no words for."""
        write: dict[str, Callable[[s.Call], str | None]] = {
            "close": lambda call: f"close({self._value(call.args[0])})",
            "ftruncate": self._ftruncate,
            "ioctl": self._ioctl,
            "memfd_create": self._memfd_create,
            "mmap": self._mmap,
            "mprotect": self._of_pages,
            "munmap": self._of_pages,
            "openat": self._openat,
            "read": self._read,
            "write": self._write,
        }
        return write[one.name](one) if one.name in write else None

    def _openat(self, one: s.Call) -> str | None:
        path = self._bytes_of(one.args[1])
        if path is None:
            return None
        name = "openat$iommufd" if path.content == b"/dev/iommu\0" else "openat"
        flags = self._number(one.args[2])
        return f"{name}({_AT_FDCWD:#x}, {self._data(path)}, {flags:#x}, 0x0)"

    def _memfd_create(self, one: s.Call) -> str | None:
        name = self._bytes_of(one.args[0])
        if name is None:
            return None
        return f"memfd_create({self._data(name)}, {self._number(one.args[1]):#x})"

    def _ftruncate(self, one: s.Call) -> str:
        return f"ftruncate({self._value(one.args[0])}, {self._number(one.args[1]):#x})"

    def _of_pages(self, one: s.Call) -> str | None:
        if not isinstance(one.args[0], Place):
            return None
        where = self._vma(one.args[0], self._number(one.args[1]))
        rest = [f"{self._number(arg):#x}" for arg in one.args[1:]]
        return f"{one.name}({where}, {', '.join(rest)})"

    def _read(self, one: s.Call) -> str | None:
        if not isinstance(one.args[1], Place):
            return None
        size, where = self._number(one.args[2]), self._address(one.args[1])
        return f'read({self._value(one.args[0])}, &({where:#x})=""/{size}, {size:#x})'

    def _write(self, one: s.Call) -> str | None:
        data = self._bytes_of(one.args[1])
        if data is None:
            return None
        size = self._number(one.args[2])
        return f"write({self._value(one.args[0])}, {self._data(data)}, {size:#x})"

    @staticmethod
    def _bytes_of(value: Value) -> Memory | None:
        """Return bytes of the program's own whose address a value is."""
        memory = value.memory if isinstance(value, Place) and not value.offset else None
        return memory if isinstance(memory, Memory) and not memory.mapped else None

    def _mmap(self, one: s.Call) -> str | None:
        memory = one.maps
        if memory is None:
            return None
        align = _HUGE_PAGE if memory.size >= _HUGE_PAGE else _PAGE
        offset = -(-self._next_map // align) * align
        size = -(-memory.size // _PAGE) * _PAGE
        self._next_map = offset + size
        if self._next_map > _END:
            raise Unfit("the test maps more memory than syzkaller has; see the C form")
        self._places[id(memory)] = _BASE + offset
        protection, flags = self._number(one.args[2]), self._number(one.args[3]) | _MAP_FIXED
        where = self._vma(Place(memory), size)
        file, start = self._value(one.args[4]), self._number(one.args[5])
        return f"mmap({where}, {memory.size:#x}, {protection:#x}, {flags:#x}, {file}, {start:#x})"

    def _ioctl(self, one: s.Call) -> str:
        file, command = self._value(one.args[0]), self._number(one.args[1])
        if len(one.args) < 3 or isinstance(one.args[2], Number):
            argument = self._number(one.args[2]) if len(one.args) > 2 else 0
            return f"ioctl({file}, {command:#x}, {argument:#x})"
        place = one.args[2]
        record = one.fetch[0] if one.fetch else place.memory if isinstance(place, Place) else None
        assert isinstance(place, Place)  # noqa: S101 - nothing else is an address
        where = self._address(place)
        if not isinstance(record, Record) or (place.offset and not one.fetch):
            content = self._contents.get(id(place.memory), b"")
            return f'ioctl({file}, {command:#x}, &({where:#x})="{content.hex()}")'
        described = self._described(one, record)
        if described:
            name, fields = described
            return f"{name}({file}, {command:#x}, &({where:#x})={{{', '.join(fields)}}})"
        return f"ioctl({file}, {command:#x}, &({where:#x})=ANY=[{', '.join(self._parts(record))}])"

    def _described(self, one: s.Call, record: Record) -> tuple[str, list[str]] | None:
        """Return a call that syzkaller describes, and its struct's values."""
        names = _DESCRIBED.get(one.title)
        given = dict(record.fields)
        if names is None or record.tail or not set(given) <= set(names):
            return None
        call = f"ioctl${one.title}"
        if one.title == "IOMMU_DESTROY":
            target = given.get("id")
            kind = _DESTROYS.get(target.path.rpartition(".")[2]) if isinstance(target, Out) else ""
            if not kind or self._value(given["id"]).startswith("0"):
                return None
            call = f"{call}${kind}"
        if one.title == "IOMMU_HWPT_ALLOC":
            if not set(given).isdisjoint(("data_type", "data_len", "data_uptr", "__reserved")):
                return None
            call = f"{call}$NONE"
        fields = []
        for name in names:
            if ".out_" in f".{name}":
                variable = self._new()
                self._outs[id(record), name] = variable
                fields.append(f"<{variable}=>0x0")
            else:
                fields.append(self._value(given[name]) if name in given else "0x0")
        return call, fields

    def _parts(self, record: Record) -> Sequence[str]:
        """Return a struct as bytes, with ids, files and addresses among them."""
        parts, plain, at = [], b"", 0
        for path, value in record.fields:
            offset = self._uapi.offsetof(record.type, path)
            size = self._uapi.sizeof(record.type, path)
            text = self._value(value)
            if text.startswith("r"):
                word = f"@ANYRES{8 * size}={text}"
            elif isinstance(value, Place):
                word = f"@ANYPTR64={self._pointer(value)}"
            else:
                continue
            plain = record.content[at:offset]
            parts += [f'@ANYBLOB="{plain.hex()}"'] if plain else []
            parts.append(word)
            at = offset + size
        rest = record.content[at:]
        return [*parts, f'@ANYBLOB="{rest.hex()}"'] if rest else parts

    # ---- values ----

    def _new(self) -> str:
        self._count += 1
        return f"r{self._count - 1}"

    def _new_handle(self, handle: Handle) -> str:
        self._handles[id(handle)] = self._new()
        return self._handles[id(handle)]

    def _value(self, value: Value) -> str:
        match value:
            case Out(record=record, path=path, offset=0) if (id(record), path) in self._outs:
                return self._outs[id(record), path]
            case Returned(handle=handle) if id(handle) in self._handles:
                return self._handles[id(handle)]
            case Place():
                return f"{self._address(value):#x}"
        return f"{self._number(value):#x}"

    def _number(self, value: Value) -> int:
        match value:
            case Number(value=number):
                return number & _U64
            case Size(record=record):
                return record.size + len(record.tail)
            case Out(value=number, offset=offset):
                return number + offset
            case Returned(value=number):
                return number
        raise AssertionError(value)

    def _address(self, place: Place) -> int:
        """Return where something is in syzkaller's memory; the program's own gets a place there."""
        memory = place.memory
        if id(memory) not in self._places:
            size = memory.size + (len(memory.tail) if isinstance(memory, Record) else 0)
            self._places[id(memory)] = _BASE + self._at
            self._at += -(-max(size, 1) // _ALIGN) * _ALIGN
            if self._at > _MAPPED:
                raise Unfit("the test has more data than syzkaller has memory; see the C form")
        return self._places[id(memory)] + place.offset

    def _vma(self, place: Place, size: int) -> str:
        return f"&({self._address(place):#x}/{size:#x})=nil"

    def _data(self, memory: Memory) -> str:
        where = self._address(Place(memory))
        if memory.text:
            return f"&({where:#x})='{memory.content[:-1].decode()}\\x00'"
        return f'&({where:#x})="{memory.content.hex()}"'

    def _pointer(self, place: Place) -> str:
        where, memory = self._address(place), place.memory
        if isinstance(memory, Record):
            return f"&({where:#x})=ANY=[{', '.join(self._parts(memory))}]"
        content = b"" if memory.mapped else memory.content[place.offset :]
        inner = f'@ANYBLOB="{content.hex()}"' if content else ""
        return f"&({where:#x})=ANY=[{inner}]"
