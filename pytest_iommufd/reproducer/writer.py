# SPDX-License-Identifier: GPL-2.0-only
"""Statements as lines of C."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.names import ARGUMENTS, argument
from pytest_iommufd.reproducer.trace import OK
from pytest_iommufd.reproducer.unfit import Unfit
from pytest_iommufd.reproducer.values import Memory, Number, Out, Place, Record, Returned, Size
from pytest_iommufd.reproducer.words import (
    WIDTH,
    errno_word,
    folded,
    literal,
    number_word,
    pattern_of,
    rows_of,
    tabbed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_iommufd.reproducer.values import Value
    from pytest_iommufd.uapi import Uapi

_LONG = 64
_MOST_COMPARED = 4096
_INT_BITS = 31
_U64 = (1 << 64) - 1
_WIDE = 8  # bytes of an address
# System calls that C has functions for, of the same arguments.
_FUNCTIONS = {
    *("close", "dup", "eventfd2", "fcntl", "ftruncate", "ioctl", "madvise", "memfd_create"),
    *("mlock", "mmap", "mprotect", "munlock", "munmap", "read", "write"),
}


class Writer:
    """Writes statements as lines of C; the functions that they call are those of c.jinja.

    Attributes:
        statics: declarations before all functions: what threads use.
        functions: those of the threads.
    """

    def __init__(self, uapi: Uapi, *, threads: bool = False) -> None:
        self.uapi = uapi
        self.statics: list[str] = []
        self.functions: list[str] = []
        self._threads = threads
        self._counts = 0

    def lines(self, statements: Sequence[s.Statement]) -> list[str]:
        """Write statements, those that begin something with an empty line before them."""
        out: list[str] = []
        before: s.Statement | None = None
        for one in statements:
            made = self._one(one)
            begins = isinstance(one, s.Declare | s.Threads | s.Fork | s.Turn) or (
                isinstance(one, s.Call) and bool(one.maps or one.handle)
            )
            if out and made and begins and not isinstance(before, s.Declare):
                out.append("")
            out += made
            before = one
        return out

    def _one(self, one: s.Statement) -> list[str]:
        if isinstance(one, s.Declare):
            declared = one.variable
            if isinstance(declared, Record):
                return self._declare(declared)
            return self._declare_bytes(declared)
        write: dict[type, Callable[[Any], list[str]]] = {
            s.Store: self._store,
            s.Copy: self._copy,
            s.Call: self._call,
            s.Compare: self._compare,
            s.CompareBytes: self._compare_bytes,
            s.Threads: self._run_threads,
            s.Fork: self._fork,
            s.Turn: lambda turn: [f"let({turn.number});"],
            s.Kill: lambda kill: [f"end({kill.number});"],
        }
        return write[type(one)](one)

    # ---- structs and bytes ----

    def _declare(self, record: Record) -> list[str]:
        inner = f"struct {record.type}"
        name = record.name
        if record.tail:
            rows = ["struct {", f"\t{inner} cmd;", f"\tunsigned char tail[{len(record.tail)}];"]
            kind = [*rows, "}"]
            fields = ["\t.cmd = {", *tabbed(self._fields(record), 2), "\t},"]
            set_bytes = [f"[{at}] = {byte:#04x}" for at, byte in enumerate(record.tail) if byte]
            if len(set_bytes) > _LONG:
                set_bytes = [row.rstrip(",") for row in rows_of(record.tail)]
            if set_bytes:
                fields.append(f"\t.tail = {{ {', '.join(set_bytes)} }},")
        else:
            kind = [inner]
            fields = tabbed(self._fields(record), 1)
        if self._threads:
            self.statics += [*kind[:-1], f"{kind[-1]} {name};"]
            self.statics[-len(kind)] = f"static {self.statics[-len(kind)]}"
            return [f"{name} = (__typeof__({name})) {{", *fields, "};"]
        return [*kind[:-1], f"{kind[-1]} {name} = {{", *fields, "};"]

    def _fields(self, record: Record) -> list[str]:
        """Initialisers, those of a struct within it in braces of their own."""
        out: list[str] = []
        inside = ""
        for path, value in record.fields:
            outer, _, last = path.rpartition(".")
            if outer != inside:
                out += ["},"] if inside else []
                out += [f".{outer} = {{"] if outer else []
                inside = outer
            indent = "\t" if outer else ""
            size = self.uapi.sizeof(record.type, path)
            out.append(f"{indent}.{last} = {self.value(value, size)},")
        return [*out, "},"] if inside else out

    def _declare_bytes(self, memory: Memory) -> list[str]:
        head = f"static unsigned char {memory.name}[{max(memory.size, 1)}]"
        lines = self._fix(Place(memory), memory.fixups)
        content = memory.content.rstrip(b"\0")
        if not content:
            declaration = f"{head} __attribute__((aligned(64)));"
        elif pattern_of(content) and len(memory.content) > _LONG:
            declaration = f"{head} __attribute__((aligned(64)));"
            lines = [self._repeat(memory.name, memory.content), *lines]
        else:
            rows = rows_of(content)
            if len(rows) == 1:
                declaration = f"{head} __attribute__((aligned(64))) = {{ {rows[0].rstrip(',')} }};"
            else:
                declaration = "\n".join(
                    [f"{head} __attribute__((aligned(64))) = {{", *tabbed(rows, 1), "};"]
                )
        if self._threads:
            self.statics += declaration.split("\n")
            return lines
        return [*declaration.split("\n"), *lines]

    def _store(self, one: s.Store) -> list[str]:
        to = self._pointer(one.place)
        if one.record:
            name = one.record.name
            return [f"memcpy({to}, &{name}, sizeof({name}));"]
        content = one.content
        if not content:
            return []
        if not content.strip(b"\0"):
            lines = [f"memset({to}, 0, {len(content)});"]
        elif len(set(content)) == 1 and len(content) > 1:
            lines = [f"memset({to}, {content[0]:#04x}, {len(content)});"]
        elif len(content) > _LONG and pattern_of(content):
            lines = [self._repeat(to, content)]
        else:
            lines = [f"memcpy({to}, {literal(content)}, {len(content)});"]
        return [*lines, *self._fix(one.place, one.fixups)]

    def _copy(self, one: s.Copy) -> list[str]:
        return [f"memcpy({self._pointer(one.to)}, {self._pointer(one.source)}, {one.size});"]

    def _repeat(self, to: str, content: bytes) -> str:
        pattern = pattern_of(content) or content
        if len(pattern) == 1:
            return f"memset({to}, {pattern[0]:#04x}, {len(content)});"
        return f"repeat({to}, {len(content)}, {literal(pattern)}, {len(pattern)});"

    def _fix(self, place: Place, fixups: Iterable[tuple[int, Value]]) -> list[str]:
        """Put addresses and files among bytes."""
        lines = []
        for at, value in fixups:
            where = self._pointer(Place(place.memory, place.offset + at))
            if isinstance(value, Place):
                lines.append(f"put_address({where}, {self._pointer(value)});")
            else:
                lines.append(f"put_file({where}, {self.value(value, 4)});")
        return lines

    # ---- calls ----

    def _call(self, one: s.Call) -> list[str]:
        expression = self._expression(one)
        before, after = [], []
        if one.maps:
            name = one.maps.name
            if self._threads:
                self.statics.append(f"static char *{name};")
                before = [f"{name} = {expression};"]
            else:
                before = [f"char *{name} = {expression};"]
            expression = f"{name} == MAP_FAILED ? -1 : 0"
        elif one.name == "mmap":
            expression = f"{expression} == MAP_FAILED ? -1 : 0"
        elif one.handle:
            name = one.handle.name
            if self._threads:
                self.statics.append(f"static int {name};")
            else:
                before = [f"int {name};"]
            expression = f"({name} = {expression})"
        if one.fetch:
            record, place = one.fetch
            after = [f"memcpy(&{record.name}, {self._pointer(place)}, sizeof({record.name}));"]
        if one.fail_nth:
            expression = f"with_fail_nth({one.fail_nth}, {int(one.fired)}, {expression})"
        if not one.returned:
            before = [
                *before,
                *_remark("The kernel did not return from this call in the test."),
                f'announce("{one.title}");',
            ]
        told = self._told(one, expression)
        if one.repeat > 1:
            told = [f"for (int i = 0; i < {one.repeat}; i++)", *tabbed(told, 1)]
        return [*before, *told, *after]

    def _told(self, one: s.Call, expression: str) -> list[str]:
        """Write a call with what is to be said of what it gives."""
        title, gave = f'"{one.title}"', errno_word(one.errno)
        if one.wants == OK and one.errno == OK and one.ret:
            return folded("judged_value", [title, expression, str(one.ret)])
        if one.wants:
            return folded("judged", [title, expression, errno_word(one.wants), gave])
        if one.free or not one.returned:
            return folded("free_call", [title, expression])
        if one.ret:
            return folded("gives", [title, expression, str(one.ret)])
        return folded("step", [title, expression, gave])

    def _expression(self, one: s.Call) -> str:
        args = [self._arg(one, at) for at in range(len(one.args))]
        if one.name == "openat" and isinstance(one.args[1], Place):
            rest = args[1:3] + (args[3:] if "O_CREAT" in args[2] else [])
            return f"open({', '.join(rest)})"
        if one.name in _FUNCTIONS:
            name = {"eventfd2": "eventfd"}.get(one.name, one.name)
            return f"{name}({', '.join(args)})"
        number = one.name if one.name.isdigit() else f"SYS_{one.name}"
        return f"syscall({', '.join([number, *(f'(long){arg}' for arg in args)])})"

    def _arg(self, one: s.Call, at: int) -> str:
        value = one.args[at]
        kind = ARGUMENTS.get((one.name, at), "")
        if kind == "pointer" or (one.name == "ioctl" and at == 2):
            return self._pointer(value)
        if isinstance(value, Number) and kind:
            return argument(kind, value.value)
        if isinstance(value, Place):
            return self._pointer(value)
        return self.value(value, _WIDE)

    # ---- values ----

    def value(self, value: Value, size: int) -> str:
        """Write a value for a field of so many bytes."""
        match value:
            case Number():
                return self._number(value, size)
            case Size(record=record):
                return f"sizeof({record.name})"
            case Out(record=record, path=path, offset=offset):
                text = f"{record.name}{'.cmd' if record.tail else ''}.{path}"
                return f"{text} + {offset:#x}" if offset else text
            case Returned(handle=handle):
                return handle.name
        return f"(uintptr_t){self._pointer(value)}"

    @staticmethod
    def _number(value: Number, size: int) -> str:
        if value.names or value.value < 0:
            return value.names or str(value.value)
        if size == _WIDE:
            return number_word(value.value)
        return f"{value.value}U" if value.value >> _INT_BITS else str(value.value)

    def _pointer(self, value: Value) -> str:
        match value:
            case Number(value=number):
                return f"(void *){number_word(number & _U64)}" if number else "NULL"
            case Place(memory=Memory(text=True) as memory):
                return literal(memory.content[:-1])
            case Place(memory=memory, offset=offset):
                if isinstance(memory, Record):
                    return f"(char *)&{memory.name} + {offset}" if offset else f"&{memory.name}"
                return f"{memory.name} + {number_word(offset)}" if offset else memory.name
        return f"(void *)(uintptr_t){self.value(value, _WIDE)}"

    # ---- what the test looked at ----

    def _compare(self, one: s.Compare) -> list[str]:
        lines = []
        inner = ".cmd" if one.record.tail else ""
        for path, value in one.fields:
            text = self.value(value, self.uapi.sizeof(one.record.type, path))
            lines += folded("value", [f"{one.record.name}{inner}.{path}", text])
        return lines

    def _compare_bytes(self, one: s.CompareBytes) -> list[str]:
        at, size = self._pointer(one.place), len(one.content)
        pattern = pattern_of(one.content)
        if pattern and (size > _LONG or len(set(one.content)) == 1):
            return [f"bytes({at}, {size}, {literal(pattern)}, {len(pattern)});"]
        if size > _MOST_COMPARED:
            return _remark(f"The test then looks at {size} bytes from {at} on; not compared here.")
        return folded("bytes", [at, str(size), literal(one.content), str(size)])

    # ---- threads and processes ----

    def _run_threads(self, one: s.Threads) -> list[str]:
        names = []
        for statements in one.threads:
            self._counts += 1
            name = f"thread_{self._counts}"
            names.append(name)
            self.functions.append(
                "\n".join(
                    [
                        f"static void *{name}(void *unused)",
                        "{",
                        "\t(void)unused;",
                        f"\tmeet({self._counts - 1});",
                        *tabbed(self.lines(statements), 1),
                        "\treturn NULL;",
                        "}",
                        "",
                    ]
                )
            )
        return [f"run_threads({len(names)}, (thread_function[]){{ {', '.join(names)} }});"]

    def _fork(self, one: s.Fork) -> list[str]:
        if not one.turns:
            return [f"forked({one.number}); /* it does nothing itself */"]
        lines = [f"if (forked({one.number})) {{"]
        for turn in one.turns:
            lines.append(f"\tturn({one.number});")
            lines += tabbed(self.lines(turn), 1)
            lines.append(f"\tdone({one.number});")
        return [*lines, "\tturn(-1);", "}"]


class Selftest(Writer):
    """Writes them with the kernel's macros."""

    def _told(self, one: s.Call, expression: str) -> list[str]:
        wanted = one.wants or one.errno
        if wanted in ("", OK):
            value = "0"
            if one.ret and not one.maps:
                value = str(one.ret)
            if one.handle:
                return folded("ASSERT_LE", ["0", expression])
            return folded("ASSERT_EQ", [value, expression])
        return folded("EXPECT_ERRNO", [wanted, expression])

    def _call(self, one: s.Call) -> list[str]:
        if one.name == "openat" and one.handle and one.handle.name == "fd":
            return []  # the fixture has it
        if one.fail_nth:
            raise Unfit("the test injects failures; see the C form, or iommufd_fail_nth.c")
        return [line for line in super()._call(one) if not line.startswith("announce(")]

    def _repeat(self, to: str, content: bytes) -> str:
        pattern = pattern_of(content) or content
        if len(pattern) == 1:
            return super()._repeat(to, content)
        step = f"((char *){to})[i] = {literal(pattern)}[i % {len(pattern)}]"
        return f"for (size_t i = 0; i < {len(content)}; i++)\n\t\t{step};"

    def _fix(self, place: Place, fixups: Iterable[tuple[int, Value]]) -> list[str]:
        lines = []
        for at, value in fixups:
            where = self._pointer(Place(place.memory, place.offset + at))
            kind = "__u64" if isinstance(value, Place) else "int"
            lines.append(f"*({kind} *)({where}) = {self.value(value, _WIDE)};")
        return lines

    def _compare(self, one: s.Compare) -> list[str]:
        inner = ".cmd" if one.record.tail else ""
        lines = []
        for path, value in one.fields:
            text = self.value(value, self.uapi.sizeof(one.record.type, path))
            lines += folded("EXPECT_EQ", [text, f"{one.record.name}{inner}.{path}"])
        return lines

    def _compare_bytes(self, one: s.CompareBytes) -> list[str]:
        at, size = self._pointer(one.place), len(one.content)
        if size > _LONG:
            return _remark(f"The test then looks at {size} bytes from {at} on; not compared here.")
        return folded("EXPECT_EQ", ["0", f"memcmp({at}, {literal(one.content)}, {size})"])

    def value(self, value: Value, size: int) -> str:
        """Write a value; the context is the fixture's."""
        if isinstance(value, Returned) and value.handle.name == "fd":
            return "self->fd"
        return super().value(value, size)


def _remark(text: str) -> list[str]:
    safe = text.replace("*/", "* /")
    lines = textwrap.wrap(safe, WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    if len(lines) == 1:
        return [f"/* {lines[0]} */"]
    return ["/*", *(f" * {line}" for line in lines), " */"]
