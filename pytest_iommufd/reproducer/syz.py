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
from pytest_iommufd.reproducer.values import Number, Out, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_iommufd.reproducer.values import Record, Value, Variable
    from pytest_iommufd.uapi import Uapi

_WIDTH = 98
# syzkaller's own memory, which programs name by addresses from here on, and where mappings go.
_BASE = 0x7F00_0000_0000
_MAPPED = 0x40_0000
_END = 0x100_0000
_ALIGN, _PAGE, _HUGE_PAGE = 0x40, 0x1000, 0x20_0000
_MAP_FIXED = 0x10
_U64 = (1 << 64) - 1

# System calls, with what each argument is: a number or file, data, a buffer, pages.
_CALLS = {
    "close": "n",
    "ftruncate": "nn",
    "memfd_create": "dn",
    "mprotect": "pnn",
    "munmap": "pn",
    "openat": "ndnn",
    "read": "nbn",
    "write": "ndn",
}
# Calls by their ioctl, or the operation of IOMMU_TEST_CMD, with how many fields they have.
_DESCRIBED = {
    "IOMMU_DESTROY": 2,
    "IOMMU_HWPT_ALLOC": 9,
    "IOMMU_IOAS_ALLOC": 3,
    "IOMMU_IOAS_COPY": 7,
    "IOMMU_IOAS_UNMAP": 4,
    "IOMMU_TEST_OP_ADD_RESERVED": 6,
    "IOMMU_TEST_OP_MOCK_DOMAIN": 7,
    "IOMMU_TEST_OP_CREATE_ACCESS": 6,
    "IOMMU_TEST_OP_DESTROY_ACCESS_PAGES": 5,
}
_DESTROYS = {"out_ioas_id": "ioas", "out_hwpt_id": "hwpt", "out_stdev_id": "stdev"}


def program(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a syzkaller program.

    Raises:
        s.Unfit: it has several processes, or more memory than syzkaller has.
    """
    writer = _Writer(uapi)
    body: list[str] = []
    for one in script.statements:
        body += writer.lines(one)
    head = [
        *header.lines(),
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
        self._outs: dict[tuple[int, str], str] = {}
        self._async = False
        self.lost: list[str] = []

    def lines(self, one: s.Statement) -> Iterator[str] | list[str]:
        if isinstance(one, s.Fork | s.Turn | s.Kill):
            raise s.Unfit("the test uses several processes; see the C form")
        if isinstance(one, s.Call):
            return self._call(one)
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
            text = f"{self._new(one.handle)} = {text}"
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
        if one.name in ("ioctl", "mmap"):
            return self._ioctl(one) if one.name == "ioctl" else self._mmap(one)
        if one.name not in _CALLS:
            return None
        args = [self._arg(kind, one.args, at) for at, kind in enumerate(_CALLS[one.name])]
        if None in args:
            return None
        is_context = one.name == "openat" and "'/dev/iommu\\x00'" in str(args[1])
        return f"{one.name}{'$iommufd' * is_context}({', '.join(map(str, args))})"

    def _arg(self, kind: str, args: Sequence[Value], at: int) -> str | None:
        value = args[at]
        if kind == "n":
            return self._value(value)
        if not isinstance(value, Place):
            return None
        where, memory = f"&({self._address(value):#x}", value.memory
        if kind == "p":
            return f"{where}/{args[at + 1].value:#x})=nil"
        if kind == "b":
            return f'{where})=""/{args[at + 1].value}'
        if memory.mapped or value.offset:
            return None
        text = f"'{memory.content[:-1].decode()}\\x00'" if memory.text else ""
        return f"{where})=" + (text or f'"{memory.content.hex()}"')

    def _mmap(self, one: s.Call) -> str | None:
        memory = one.maps
        if memory is None:
            return None
        align = _HUGE_PAGE if memory.size >= _HUGE_PAGE else _PAGE
        offset = -(-self._next_map // align) * align
        size = -(-memory.size // _PAGE) * _PAGE
        self._next_map = offset + size
        if self._next_map > _END:
            raise s.Unfit("the test maps more memory than syzkaller has; see the C form")
        self._places[id(memory)] = _BASE + offset
        protection, flags = one.args[2].value, one.args[3].value | _MAP_FIXED
        where = f"&({_BASE + offset:#x}/{size:#x})=nil"
        file, start = self._value(one.args[4]), one.args[5].value
        return f"mmap({where}, {memory.size:#x}, {protection:#x}, {flags:#x}, {file}, {start:#x})"

    def _ioctl(self, one: s.Call) -> str:
        file, command = self._value(one.args[0]), one.args[1].value
        place = one.args[2] if len(one.args) > 2 else Number(0)
        if not isinstance(place, Place):
            return f"ioctl({file}, {command:#x}, {self._value(place)})"
        where, record = self._address(place), place.record
        if record is None:
            content = place.memory.content.hex()
            return f'ioctl({file}, {command:#x}, &({where:#x})="{content}")'
        described = self._described(one, record)
        if described:
            name, fields = described
            return f"{name}({file}, {command:#x}, &({where:#x})={{{', '.join(fields)}}})"
        return f"ioctl({file}, {command:#x}, &({where:#x})=ANY=[{', '.join(self._parts(record))}])"

    def _described(self, one: s.Call, record: Record) -> tuple[str, list[str]] | None:
        """Return a call that syzkaller describes, and its struct's values."""
        names = [path for path, _ in record.leaves.values()][: _DESCRIBED.get(one.title, 0)]
        given = dict(record.fields)
        if not names or record.tail or not set(given) <= set(names):
            return None
        call = f"ioctl${one.title}"
        if one.title == "IOMMU_DESTROY":
            target = given.get("id")
            path = target.path if isinstance(target, Out) else ""
            kind = _DESTROYS.get(path.rpartition(".")[2])
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
                fields.append(f"<{self._new(record, name)}=>0x0")
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

    def _new(self, variable: Variable, path: str = "") -> str:
        made = self._outs[id(variable), path] = f"r{len(self._outs)}"
        return made

    def _value(self, value: Value) -> str:
        if isinstance(value, Out) and not value.offset:
            known = self._outs.get((id(value.variable), value.path))
            if known:
                return known
        return f"{self._address(value) if isinstance(value, Place) else value.value & _U64:#x}"

    def _address(self, place: Place) -> int:
        """Return where something is in syzkaller's memory; the program's own gets a place there."""
        memory = place.memory
        if id(memory) not in self._places:
            self._places[id(memory)] = _BASE + self._at
            self._at += -(-max(memory.size, 1) // _ALIGN) * _ALIGN
            if self._at > _MAPPED:
                raise s.Unfit("the test has more data than syzkaller has memory; see the C form")
        return self._places[id(memory)] + place.offset

    def _pointer(self, place: Place) -> str:
        where, record = self._address(place), place.record
        if record:
            return f"&({where:#x})=ANY=[{', '.join(self._parts(record))}]"
        content = place.memory.content[place.offset :] if place.offset >= 0 else b""
        inner = f'@ANYBLOB="{content.hex()}"' if content else ""
        return f"&({where:#x})=ANY=[{inner}]"
