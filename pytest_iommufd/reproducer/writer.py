# SPDX-License-Identifier: GPL-2.0-only
"""Statements as lines of C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.names import POINTERS, argument
from pytest_iommufd.reproducer.trace import OK
from pytest_iommufd.reproducer.values import Memory, Number, Out, Place, Record
from pytest_iommufd.reproducer.words import (
    comment,
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
_U64 = (1 << 64) - 1
_WIDE = 8  # bytes of an address
# until a call that must return hangs
_SECONDS = 10
# System calls whose value is a file descriptor.
_OPENS = {"openat", "memfd_create", "eventfd2", "dup", "userfaultfd"}
# System calls that C has functions for, of the same arguments.
_FUNCTIONS = {
    *("close", "dup", "eventfd2", "fcntl", "ftruncate", "ioctl", "madvise", "memfd_create"),
    *("mlock", "mmap", "mprotect", "munlock", "munmap", "read", "write"),
}


class Writer:
    """Writes statements as lines of C; the functions that they call are those of runtime.c.

    Args:
        uapi: the structs and constants.
        threads: whether there are threads, which share all variables.
        by_calls: whether the judged calls decide, so that the program ends once they have.

    Attributes:
        statics: declarations before all functions: what threads use.
        functions: those of the threads.
    """

    def __init__(self, uapi: Uapi, *, threads: bool = False, by_calls: bool = False) -> None:
        self.uapi = uapi
        self.statics: list[str] = []
        self.functions: list[str] = []
        self._threads = threads
        self._by_calls = by_calls
        self._counts = 0

    def lines(self, statements: Sequence[s.Statement]) -> list[str]:
        """Write statements, those that begin something with an empty line before them."""
        out: list[str] = []
        before: s.Statement | None = None
        broke = False
        for one in statements:
            judged = isinstance(one, s.Call) and one.wants
            if broke and not (judged or isinstance(one, s.Declare | s.Store)):
                out.append("ends_if_it_holds();")
                broke = False
            made = self._one(one)
            if not made:
                continue
            begins = isinstance(one, s.Declare | s.Threads | s.Fork | s.Turn) or (
                isinstance(one, s.Call) and bool(one.maps or one.handle)
            )
            if out and begins and not isinstance(before, s.Declare):
                out.append("")
            out += made
            before = one
            broke = broke or (self._by_calls and isinstance(one, s.Call) and one.broke)
        return out

    def _one(self, one: s.Statement) -> list[str]:
        write: dict[type, Callable[[Any], list[str]]] = {
            s.Declare: self._declare,
            s.Store: self._store,
            s.Copy: lambda copy: [
                f"memcpy({self._pointer(copy.to)}, {self._pointer(copy.source)}, {copy.size});"
            ],
            s.Call: self._call,
            s.Compare: self._compare,
            s.CompareBytes: self._compare_bytes,
            s.CompareLine: self._compare_line,
            s.Threads: self._run_threads,
            s.Fork: self._fork,
            s.Turn: lambda turn: [f"let({turn.number});"],
            s.Kill: lambda kill: [f"end({kill.number});"],
        }
        return write[type(one)](one)

    # ---- structs and bytes ----

    def _declare(self, one: s.Declare) -> list[str]:
        if isinstance(one.variable, Record):
            return self._declare_struct(one.variable)
        return [] if one.variable.text else self._declare_bytes(one.variable)

    def _declare_struct(self, record: Record) -> list[str]:
        kind, fields = [f"struct {record.type}"], self._fields(record)
        if record.tail:
            size = len(record.tail)
            kind = ["struct {", f"\t{kind[0]} cmd;", f"\tunsigned char tail[{size}];", "}"]
            fields = [".cmd = {", *tabbed(fields, 1), "},"]
            set_bytes = [f"[{at}] = {byte:#04x}" for at, byte in enumerate(record.tail) if byte]
            if len(set_bytes) > _LONG:
                set_bytes = [row.rstrip(",") for row in rows_of(record.tail)]
            if set_bytes:
                fields.append(f".tail = {{ {', '.join(set_bytes)} }},")
        name, fields = record.name, [*tabbed(fields, 1), "};"]
        if self._threads:
            self.statics += [f"static {kind[0]}", *kind[1:]]
            self.statics[-1] += f" {name};"
            return [f"{name} = (__typeof__({name})) {{", *fields]
        return [*kind[:-1], f"{kind[-1]} {name} = {{", *fields]

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
        size = max(memory.size, 1)
        declared = [f"static unsigned char {memory.name}[{size}] __attribute__((aligned(64)))"]
        lines = self._fix(Place(memory), memory.fixups)
        content = memory.content.rstrip(b"\0")
        if len(content) > _LONG and pattern_of(memory.content):
            lines = [self._repeat(memory.name, memory.content), *lines]
        elif content:
            declared = [f"{declared[0]} = {{", *tabbed(rows_of(content), 1), "}"]
            if len(declared) == len(("head", "row", "end")):
                declared = [" ".join([declared[0], declared[1].strip("\t,"), "}"])]
        declared[-1] += ";"
        if self._threads:
            self.statics += declared
            return lines
        return [*declared, *lines]

    def _store(self, one: s.Store) -> list[str]:
        to, content = self._pointer(one.place), one.content
        if one.record:
            return [f"memcpy({to}, &{one.record.name}, sizeof({one.record.name}));"]
        if not content:
            return []
        if pattern_of(content) and (len(content) > _LONG or len(set(content)) == 1):
            lines = [self._repeat(to, content)]
        else:
            lines = [f"memcpy({to}, {literal(content)}, {len(content)});"]
        return [*lines, *self._fix(one.place, one.fixups)]

    def _repeat(self, to: str, content: bytes) -> str:
        pattern = pattern_of(content) or content
        return f"repeat({to}, {len(content)}, {literal(pattern)}, {len(pattern)});"

    def _fix(self, place: Place, fixups: Iterable[tuple[int, Value]]) -> list[str]:
        """Put addresses and files among bytes."""
        lines = []
        for at, value in fixups:
            where = self._pointer(Place(place.memory, place.offset + at))
            kind = "__u64" if isinstance(value, Place) else "int"
            number = f"&({kind}){{ {self.value(value, _WIDE)} }}"
            lines.append(f"memcpy({where}, {number}, sizeof({kind}));")
        return lines

    # ---- calls ----

    def _call(self, one: s.Call) -> list[str]:
        expression = self._expression(one)
        before = []
        if one.maps:
            before = self._new("char *", one.maps.name, expression)
            expression = one.maps.name
        if one.name == "mmap":
            expression = f"{expression} == MAP_FAILED ? -1 : 0"
        elif one.handle:
            before = self._new("int ", one.handle.name)
            expression = f"({one.handle.name} = {expression})"
        if one.fail_nth:
            expression = f"with_fail_nth({one.fail_nth}, {int(one.fired)}, {expression})"
        if not one.returned:
            before = [
                *before,
                *comment("The kernel did not return from this call in the test."),
                f'announce("{one.title}", {_SECONDS});',
            ]
        told = self._told(one, expression)
        if one.repeat > 1:
            told = [f"for (int i = 0; i < {one.repeat}; i++)", *tabbed(told, 1)]
        return [*before, *told]

    def _new(self, kind: str, name: str, value: str = "") -> list[str]:
        """Declare a variable of a simple type."""
        if self._threads:
            self.statics.append(f"static {kind}{name};")
            kind = ""
        return [f"{kind}{name}{' = ' * bool(value)}{value};"] if kind or value else []

    def _told(self, one: s.Call, expression: str) -> list[str]:
        """Write a call with what is to be said of what it gives."""
        title, gave = f'"{one.title}"', errno_word(one.errno)
        ret = one.ret if one.errno == OK and not one.handle else 0
        if one.wants == OK and ret:
            return folded("judged_value", [title, expression, str(ret)])
        if one.wants:
            return folded("judged", [title, expression, errno_word(one.wants), gave])
        if one.free or not one.returned:
            return folded("free_call", [title, expression])
        if ret:
            return folded("gives", [title, expression, str(ret)])
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
        if isinstance(value, Place) or POINTERS.get(one.name) == at:
            return self._pointer(value)
        named = argument(one.name, at, value.value) if isinstance(value, Number) else ""
        return named or self.value(value, _WIDE)

    # ---- values ----

    def value(self, value: Value, size: int) -> str:
        """Write a value for a field of so many bytes."""
        match value:
            case Number(value=number, names=names):
                return names or number_word(number, decimal=size < _WIDE)
            case Out(variable=Record() as record, path=path, offset=offset):
                return _plus(self.field(record, path), offset)
            case Out(variable=handle, offset=offset):
                return _plus(handle.name, offset)
            case Place():
                return f"(uintptr_t){self._pointer(value)}"
        return f"sizeof({value.record.name})"

    @staticmethod
    def field(record: Record, path: str) -> str:
        """Write a field of a struct."""
        return f"{record.name}{'.cmd' if record.tail else ''}.{path}"

    def _pointer(self, value: Value) -> str:
        match value:
            case Number(value=number):
                return f"(void *){number_word(number & _U64)}" if number else "NULL"
            case Place(memory=Memory(text=True) as memory):
                return literal(memory.content[:-1])
            case Place(memory=Record(name=name), offset=offset):
                return _plus(f"(char *)&{name}", offset) if offset else f"&{name}"
            case Place(memory=memory, offset=offset):
                return _plus(memory.name, offset)
        return f"(void *)(uintptr_t)({self.value(value, _WIDE)})"

    # ---- what the test looked at ----

    def _compare(self, one: s.Compare) -> list[str]:
        lines = []
        for path, value in one.fields:
            text = self.value(value, self.uapi.sizeof(one.record.type, path))
            lines += self._compare_field(self.field(one.record, path), text)
        return lines

    def _compare_field(self, field: str, text: str) -> list[str]:
        return folded("value", [field, text])

    def _compare_bytes(self, one: s.CompareBytes) -> list[str]:
        at, size = self._pointer(one.place), len(one.content)
        pattern = pattern_of(one.content)
        if pattern and (size > _LONG or len(set(one.content)) == 1):
            return [f"bytes({at}, {size}, {literal(pattern)}, {len(pattern)});"]
        if size > _MOST_COMPARED:
            return _not_compared(at, size)
        return folded("bytes", [at, str(size), literal(one.content), str(size)])

    def _compare_line(self, one: s.CompareLine) -> list[str]:
        return folded("text_line", [self._pointer(one.place), literal(one.line)])

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
        if wanted not in ("", OK):
            return folded("EXPECT_ERRNO", [wanted, expression])
        if one.handle or one.name in _OPENS:
            return folded("ASSERT_LE", ["0", expression])
        return folded("ASSERT_EQ", [str(one.ret or 0), expression])

    def _call(self, one: s.Call) -> list[str]:
        if one.handle and one.handle.name == "fd" and one.name == "openat":
            return []  # the fixture has it
        if one.fail_nth:
            raise s.Unfit("the test injects failures; see the C form, or iommufd_fail_nth.c")
        return [line for line in super()._call(one) if not line.startswith("announce(")]

    def _repeat(self, to: str, content: bytes) -> str:
        pattern = pattern_of(content) or content
        step = f"((char *){to})[i] = {literal(pattern)}[i % {len(pattern)}]"
        return f"for (size_t i = 0; i < {len(content)}; i++)\n\t\t{step};"

    def _compare_field(self, field: str, text: str) -> list[str]:
        return folded("EXPECT_EQ", [text, field])

    def _compare_bytes(self, one: s.CompareBytes) -> list[str]:
        at, size = self._pointer(one.place), len(one.content)
        if size > _LONG:
            return _not_compared(at, size)
        return folded("EXPECT_EQ", ["0", f"memcmp({at}, {literal(one.content)}, {size})"])

    def _compare_line(self, one: s.CompareLine) -> list[str]:
        words = f"strstr((char *){self._pointer(one.place)}, {literal(one.line)})"
        return folded("EXPECT_NE", ["NULL", words])

    def value(self, value: Value, size: int) -> str:
        """Write a value; the context is the fixture's."""
        if isinstance(value, Out) and value.variable.name == "fd":
            return "self->fd"
        return super().value(value, size)


def _plus(text: str, offset: int) -> str:
    sign = "-" if offset < 0 else "+"
    return f"{text} {sign} {number_word(abs(offset))}" if offset else text


def _not_compared(at: str, size: int) -> list[str]:
    return comment(f"The test then looks at {size} bytes from {at} on; not compared here.")
