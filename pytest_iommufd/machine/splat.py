# SPDX-License-Identifier: GPL-2.0-only
"""Finds splats in the kernel log: WARNING, BUG, Oops and the sanitizers' and checkers' reports."""

from __future__ import annotations

import re
from dataclasses import dataclass

PANIC = re.compile(r"Kernel panic - not syncing: (?P<why>.*)")

# The first line of each kind of report, as the kernel prints it.
_TITLES = (
    r"WARNING: ",  # WARN*(), lockdep, suspicious RCU usage
    r"BUG: ",  # KASAN, KCSAN, KFENCE, sleeping function, soft lockup, NULL dereference
    r"kernel BUG at ",
    r"Oops: ",
    r"general protection fault",
    r"Unable to handle kernel ",
    r"UBSAN: ",
    r"refcount_t: ",
    r"list_(add|del) corruption",
    r"INFO: task .* blocked for more than",
    r"INFO: possible ",
    r"INFO: rcu_\w+ (self-)?detected",
    r"kmemleak: \d+ new suspected",
    r"iommufd: Time out waiting for iommufd object",  # main.c: an object that leaks
)
_SPLAT = re.compile("|".join(_TITLES))
# Those that a kernel also prints after it stood still, and how many seconds they say.
_STALL = re.compile(
    r"blocked for more than (\d+) s|stuck for (\d+)s|INFO: rcu_\w+ (?:self-)?detected"
)
_RCU_SECONDS = 21.0  # CONFIG_RCU_CPU_STALL_TIMEOUT
_START = re.compile(r"------------\[ cut here \]------------")
_END = re.compile(r"---\[ end trace ")
_PLACE = re.compile(r"RIP: 0010:([\w.]+)")  # in the kernel; a process has another selector
# lines of a report that has no end mark
_TAIL_LINES = 40


@dataclass(frozen=True)
class Splat:
    """One report.

    Attributes:
        title: its telling line.
        text: the whole of it, as far as it was in the log.
    """

    title: str
    text: str

    @property
    def sentence(self) -> str:
        """Its title, with the function where the kernel was if the title does not name it."""
        found = _PLACE.search(self.text)
        unsaid = f" in {found[1]}()" if found and found[1] not in self.title else ""
        return self.title + unsaid

    @property
    def stall(self) -> float:
        """After how many seconds without progress a kernel says this; 0 for what is no stall."""
        found = _STALL.search(self.title)
        return float(found[1] or found[2] or _RCU_SECONDS) if found else 0.0


def find_splats(lines: list[str]) -> list[Splat]:
    """Return the reports among lines of a kernel log (without time stamps or prefixes).

    Several telling lines within one report, such as a refcount_t line inside a WARNING, are one.
    """
    splats: list[Splat] = []
    at = 0
    while at < len(lines):
        if not _SPLAT.search(lines[at]):
            at += 1
            continue
        end = _report_end(lines, at)
        begin = at - 1 if at and _START.search(lines[at - 1]) else at
        splats.append(Splat(lines[at].strip(), "\n".join(lines[begin:end])))
        at = end
    return splats


def _report_end(lines: list[str], at: int) -> int:
    for index in range(at, len(lines)):
        if _END.search(lines[index]):
            return index + 1
        if index > at and _START.search(lines[index]):
            return index
    return min(len(lines), at + _TAIL_LINES)
