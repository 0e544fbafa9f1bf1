# SPDX-License-Identifier: GPL-2.0-only
"""A script as C: a program, and the body of a TEST_F of the kernel's selftest."""

from __future__ import annotations

import functools
import re
import textwrap
from importlib import resources
from typing import TYPE_CHECKING

import jinja2

from pytest_iommufd.reproducer import script as s
from pytest_iommufd.reproducer.unfit import Unfit
from pytest_iommufd.reproducer.words import WIDTH, number_word, tabbed
from pytest_iommufd.reproducer.writer import Selftest, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_iommufd.uapi import Uapi

_IOMMUFD_TYPE = 0x3B
_HOW_TO = """\
Build: gcc -static -o reproducer {file}
Run: as root, on a kernel with CONFIG_IOMMUFD_TEST, in a guest that may crash
Status: 0 the kernel behaves as the rule says, 1 it does not, 2 the program did not come to that"""


def program(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a program that needs no header but the C library's and linux/types.h."""
    writer = Writer(uapi, threads=_has(script.statements, s.Threads))
    body = "\n".join(tabbed(writer.lines(script.statements), 1))
    found = _definitions("\n".join([body, *writer.functions, *writer.statics]), uapi)
    return _template("c.jinja").render(
        head=_comment([*_head(script, header), *_HOW_TO.format(file=header.file).splitlines()]),
        script=script,
        header=header,
        body=body,
        functions=writer.functions,
        statics=writer.statics,
        definitions=found,
        uses=lambda words: re.search(rf"\b({words})\(", body + "".join(writer.functions)),
        wants=_wants(script),
    )


def kselftest(script: s.Script, header: s.Header, uapi: Uapi) -> str:
    """Write a TEST_F for tools/testing/selftests/iommu/iommufd.c.

    Raises:
        Unfit: it has threads or processes, which that has no means for.
    """
    for kind, name in ((s.Threads, "threads"), (s.Fork, "several processes")):
        if _has(script.statements, kind):
            raise Unfit(f"the test uses {name}; see the C form")
    writer = Selftest(uapi)
    return _template("kselftest.jinja").render(
        head=_comment(_head(script, header)),
        name=re.sub(r"\W", "_", header.slug),
        body="\n".join(tabbed(writer.lines(script.statements), 1)),
        script=script,
    )


@functools.cache
def _template(name: str) -> jinja2.Template:
    text = resources.files(__package__).joinpath(name).read_text("utf-8")
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - it is C, not HTML
        keep_trailing_newline=True,
    )
    return environment.from_string(text)


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
    lines = [f"{header.slug}: {header.says}" if header.says else header.slug, ""]
    if header.sources:
        lines += [f"Source: {'; '.join(header.sources)}"]
    lines += [f"Kernel: {header.kernel}", f"Test: {header.result}", f"Again: {header.command}", ""]
    for lost in script.lost:
        lines += [f"NOT CARRIED OVER: {lost}", ""]
    if script.verdict == s.BY_SAMENESS:
        told = "The test then compares what this program cannot tell right from wrong"
        lines += [f"{told}. There it failed: {script.failed}", ""]
    return lines


def _comment(lines: Sequence[str]) -> str:
    out = ["/*"]
    for line in lines:
        safe = line.replace("*/", "* /")
        wrapped = textwrap.wrap(
            safe, WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
        )
        out += [f" * {part}".rstrip() for part in wrapped or [""]]
    while out[-1] == " *":
        out.pop()
    return "\n".join([*out, " */"])


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
