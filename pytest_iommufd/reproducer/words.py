# SPDX-License-Identifier: GPL-2.0-only
"""Numbers, bytes and calls as C has them."""

from __future__ import annotations

import errno
import textwrap
from typing import TYPE_CHECKING

from pytest_iommufd.reproducer.trace import OK

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 88
_ROW = 12
# A pattern so short is given once, and repeated by the program.
_PERIOD = 512
_INT_BITS = 31
_DIGIT = 9
_PLAIN = {at: chr(at) for at in range(ord(" "), ord("~") + 1) if chr(at) not in '"\\?'}


def errno_word(name: str) -> str:
    """Write an errno's name: 0 for "OK", -1 for a call that did not return."""
    if name in ("", OK):
        return "0" if name else "-1"
    if hasattr(errno, name):
        return name
    return name.removeprefix("errno ")


def folded(function: str, args: Sequence[str]) -> list[str]:
    """Write a call of a function on one line, or its arguments below each other."""
    line = f"{function}("
    out = []
    for at, arg in enumerate(args):
        word = arg + (");" if at == len(args) - 1 else ",")
        if len(line) + len(word) > WIDTH and not line.endswith("("):
            out.append(line.rstrip())
            line = "\t"
        line += f"{word} "
    return [*out, line.rstrip()]


def rows_of(content: bytes) -> list[str]:
    """Write bytes as elements of an array, in rows."""
    return [
        ", ".join(f"{byte:#04x}" for byte in content[at : at + _ROW]) + ","
        for at in range(0, len(content), _ROW)
    ]


def literal(content: bytes) -> str:
    """Write bytes as a C string, which has a 0 more at its end."""
    return '"' + "".join(_PLAIN.get(byte, f"\\{byte:03o}") for byte in content) + '"'


def pattern_of(content: bytes) -> bytes:
    """Return the short pattern that bytes repeat, empty when they do not."""
    for size in range(1, min(_PERIOD, len(content) // 2) + 1):
        if content[size:] == content[:-size]:
            return content[:size]
    return b""


def number_word(value: int, *, decimal: bool = False) -> str:
    """Write a number with the type that it needs; large ones in hex."""
    text = str(value) if decimal or value <= _DIGIT else hex(value)
    if value >= 1 << 32:
        return f"{text}ULL"
    return f"{text}U" if value >= 1 << _INT_BITS else text


def tabbed(lines: Iterable[str], depth: int) -> list[str]:
    """Indent lines of C."""
    return [f"{chr(9) * depth}{line}" if line else line for line in lines]


def comment(*lines: str) -> list[str]:
    """Write lines as a comment of C, folded; a short one on a line."""
    out: list[str] = []
    for line in lines:
        out += textwrap.wrap(
            line.replace("*/", "* /"),
            WIDTH - 8 * (len(lines) == 1),
            break_long_words=False,
            break_on_hyphens=False,
            subsequent_indent="  " * (len(lines) > 1),
        ) or [""]
    while out and not out[-1]:
        out.pop()
    if len(out) == 1:
        return [f"/* {out[0]} */"]
    return ["/*", *(f" * {line}".rstrip() for line in out), " */"]
