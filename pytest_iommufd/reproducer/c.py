# SPDX-License-Identifier: GPL-2.0-only
"""A script as C: a program, and the body of a TEST_F of the kernel's selftest."""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.words import comment, folded, literal, number_word, tabbed
from pytest_iommufd.reproducer.writer import Selftest, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_iommufd.uapi import Uapi

_IOMMUFD_TYPE = 0x3B
_HOW_TO = """\
Build: gcc -static -o reproducer {file}
Run: as root, on a kernel with CONFIG_IOMMUFD_TEST, in a guest that may crash
Status: 0 the kernel behaves as the rule says, 1 it does not, 2 the program did not come to that"""
# In runtime.c: what begins at the left, and a function's, variable's or macro's name.
_ITEM = re.compile(r"\n\n(?=[^\s{}])")
_NAME = re.compile(r"^(?:static|#define|typedef)\b.*?(\w+)[\[(;)]", re.MULTILINE)
_NO_CODE = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', re.DOTALL)
# What its verdict is about, and when the kernel does not behave.
_VERDICTS = {
    s.BY_CALLS: (" wants {}", "found->violated || differs()"),
    s.BY_SAMENESS: (": as in the test that failed", "found->other ? ASTRAY : VIOLATED"),
    s.BY_RETURN: (": the call must return", "!!found->violated"),
    s.BY_LOG: (": the kernel's log", "has_splat()"),
    s.BY_DEVICES: (": mock devices", "found->violated || devices_are_left()"),
}


def program(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a program that needs no header but the C library's and linux/types.h."""
    writer = Writer(
        uapi,
        threads=_has(script.statements, s.Threads),
        by_calls=script.verdict == s.BY_CALLS,
    )
    body = writer.lines(script.statements)
    about, status = _VERDICTS[script.verdict]
    if script.failed or any(call.broke for call in s.calls(script.statements)):
        status = status.replace(" || differs()", " != 0")
    words = [literal(text.encode()) for text in (header.slug, about.format(_wants(script)))]
    main = [
        *("int main(void)", "{", "\tbegin();"),
        *(["\topen_log();"] if script.verdict == s.BY_LOG else []),
        *("", *tabbed([*body, "", *folded("return verdict", [*words, status])], 1), "}"),
    ]
    own = "\n".join([*writer.statics, *([""] if writer.statics else []), *writer.functions, *main])
    includes, *items = _used(own)
    definitions = _definitions(own, uapi)
    if definitions:
        definitions.insert(0, "/* As the headers of the kernel under test have it. */")
    head = comment(*_head(script, header), *_HOW_TO.format(file=header.file).splitlines())
    license_line, includes = includes.split("\n", 1)
    top = "\n".join([license_line, *head, includes])
    return "\n\n".join([top, *(["\n".join(definitions)] if definitions else []), *items, own, ""])


def _used(text: str) -> list[str]:
    """Return what a program's own text needs of runtime.c, the includes first."""
    first, *items = _ITEM.split(
        resources.files(__package__).joinpath("runtime.c").read_text("utf-8")
    )
    kept: list[str] = []
    for item in reversed(items):
        name = _NAME.search(item)
        code = _NO_CODE.sub("", "\n".join([text, *kept]))
        if not name or re.search(rf"\b{name[1]}\b", code):
            kept.insert(0, item.rstrip())
    return [first, *kept]


def kselftest(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a TEST_F for tools/testing/selftests/iommu/iommufd.c.

    Raises:
        s.Unfit: it has threads or processes, which that has no means for.
    """
    for kind, name in ((s.Threads, "threads"), (s.Fork, "several processes")):
        if _has(script.statements, kind):
            raise s.Unfit(f"the test uses {name}; see the C form")
    body = tabbed(Selftest(uapi).lines(script.statements), 1)
    return "\n".join(
        [
            *comment(*_head(script, header)),
            "/* For tools/testing/selftests/iommu/iommufd.c of the same kernel. */",
            f"TEST_F(iommufd, {re.sub(r'[^0-9A-Za-z_]', '_', header.slug)})",
            *("{", *body, "}", ""),
        ]
    )


def _has(statements: Iterable[s.Statement], kind: type) -> bool:
    return any(isinstance(one, kind) for one in s.flat(statements))


def _wants(script: s.Script) -> str:
    """Say what the judged calls must give."""
    found = dict.fromkeys(call.wants for call in s.calls(script.statements) if call.wants)
    if len(found) > 1:
        return "what is said beside each call"
    return next(iter(found), "")


# ---- comments ----


def _head(script: s.Script, header: s.Header) -> list[str]:
    rule, *rest = header.lines()
    lines = [rule, "", *rest, ""]
    for lost in script.lost:
        lines += [f"NOT CARRIED OVER: {lost}", ""]
    if script.verdict == s.BY_SAMENESS:
        told = "The test then compares what this program cannot tell right from wrong"
        lines += [f"{told}. There it failed: {script.failed}", ""]
    return lines


# ---- what the headers have ----


def _definitions(text: str, uapi: Uapi) -> list[str]:
    """Return C text of the constants and structs that some text uses, from the kernel's header."""
    words = dict.fromkeys(re.findall(r"\b[A-Z][A-Z0-9_a-z]+\b", text))
    known = {ioctl.name: ioctl.number for ioctl in uapi.commands}
    out = []
    for word in words:
        if word in known:
            number = known[word]
            value = f"{number:#x}"
            if number >> 8 == _IOMMUFD_TYPE:
                value = f"_IO(';', {number & 0xFF:#04x})"
            out.append(f"#define {word} {value}")
        elif "_" in word and uapi.has(word):
            out.append(f"#define {word} {number_word(getattr(uapi, word))}")
    structs: dict[str, None] = {}

    def need(name: str) -> None:
        if name in structs or not uapi.has(name):
            return
        for inner in re.findall(r"\bstruct (\w+)", uapi.declaration(name))[1:]:
            need(inner)
        structs[name] = None

    for name in re.findall(r"\bstruct (\w+)", text):
        need(name)
    for name in structs:
        out += ["", _short(uapi, name, text)]
    return out


def _short(uapi: Uapi, name: str, text: str) -> str:
    """Return a struct's declaration; of iommu_test_cmd's union what is used, and the largest."""
    whole = uapi.declaration(name)
    members = re.findall(r"^\t\tstruct \{.*?^\t\t\} (\w+);\n", whole, re.DOTALL | re.MULTILINE)
    if not members:
        return whole
    largest = max(members, key=lambda member: uapi.sizeof(name, member))
    for member in members:
        if member != largest and not re.search(rf"\.{member}\b", text):
            pattern = rf"^\t\tstruct \{{\n(?:\t\t\t.*\n)*\t\t\}} {member};\n"
            whole = re.sub(pattern, "", whole, flags=re.MULTILINE)
    check = f'_Static_assert(sizeof(struct {name}) == {uapi.sizeof(name)}, "as the kernel has it");'
    return f"{whole}\n{check}"
