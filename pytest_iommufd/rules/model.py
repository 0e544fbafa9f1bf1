# SPDX-License-Identifier: GPL-2.0-only
"""What a rules.toml is made of.

A field is the key of that name, which docs/rules.md describes; `name` and `slug` are the table's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.marker import ABSENT, ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

OK = "OK"
DECLARED = "declared"
"""The result of a rule that stands for many: what each is made from says it."""
VIOLATED, CRASHED = "violated", "crashed"
WITHOUT = " without "


TREE = "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/"
"""Where the files of Linux can be read."""
_PAGES = (
    *("close(2)", "fcntl(2)", "getrlimit(2)", "ioctl(2)", "mlock(2)", "mmap(2)", "open(2)"),
    *("poll(2)", "read(2)", "write(2)", "mmap(3p)", "capabilities(7)"),
)


def _manual(page: str) -> str:
    """Return where a manual page such as mmap(2) can be read; 3p is POSIX."""
    name, section = page.rstrip(")").split("(")
    return f"https://man7.org/linux/man-pages/man{section[0]}/{name}.{section}.html"


DOCUMENTS = {
    "iommufd.h": f"{TREE}include/uapi/linux/iommufd.h",
    "vfio.h": f"{TREE}include/uapi/linux/vfio.h",
    "iommufd.rst": f"{TREE}Documentation/userspace-api/iommufd.rst",
    "vfio.rst": f"{TREE}Documentation/driver-api/vfio.rst",
    "botching-up-ioctls.rst": f"{TREE}Documentation/process/botching-up-ioctls.rst",
    "selftest": f"{TREE}tools/testing/selftests/iommu/iommufd.c",
    "fail_nth": f"{TREE}tools/testing/selftests/iommu/iommufd_fail_nth.c",
    **{page: _manual(page) for page in _PAGES},
}
"""What promises something to users, by the name that a catalogue has for it."""


class RuleError(Problem):
    """A test's rule is not what its catalogue has: that test's fault, not the kernel's."""


@dataclass(frozen=True)
class Dialect:
    """A way to speak an ioctl; `like` names the one whose results hold where it has none."""

    name: str
    about: str
    like: str = ""


MAINLINE = Dialect("mainline", "the uAPI of Linux")


@dataclass(frozen=True)
class Source:
    """Where rules come from, besides the kernel's own functions."""

    name: str
    about: str
    by: str
    on: date
    link: str
    series: str = ""


@dataclass(frozen=True)
class Capability:
    """Something that a kernel may lack; it is asked of the kernel or of its header."""

    name: str
    header: str = ""
    ioctl: str = ""
    fixture: str = ""
    lacks: str = ""

    @property
    def meaning(self) -> str:
        """What a kernel must have, or what is said where it has it not."""
        if self.header:
            return f"{self.header} in the kernel's header"
        return self.ioctl or f"absent where: {self.lacks}"


@dataclass(frozen=True)
class Defect:
    """What some kernels are known to do instead of what a rule says, rightly or not.

    A call's result is recognised by `gives`, a failure of the test by `shows` as well.
    """

    gives: str
    why: str
    shows: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    reported: str = ""
    mended: str = ""
    seen: str = ""

    def is_shown_by(self, lines: Sequence[str]) -> bool:
        """Tell whether a failure is this defect's: all that shows it, and nothing else.

        Args:
            lines: what the failure says.
        """
        found = [{one for one in self.shows if re.search(one, line)} for line in lines]
        return all(found) and set[str]().union(*found) == set(self.shows)


@dataclass(frozen=True)
class Rule:
    """What a kernel must do; `expect` has the result of every dialect.

    It rests on promises, or is mere behaviour: what the code does, and nobody has promised. Its
    aliases are names that it had before, which go on working.
    """

    slug: str
    says: str
    source: tuple[str, ...]
    expect: Mapping[str, str]
    promise: tuple[str, ...] = ()
    behaviour: str = ""
    needs: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    differences: tuple[Defect, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called, and what it was called before."""
        return self.slug, *self.aliases

    def stands_for(self, slug: str) -> bool:
        """Tell whether a name is this rule's, which may have `*` for some parts."""
        if slug in self.aliases:
            return True
        parts, given = self.slug.split("."), slug.split(".")
        return len(parts) == len(given) and all(
            part in (ANY, other) for part, other in zip(parts, given, strict=True)
        )

    def defects_of(self, dialect: str) -> tuple[Defect, ...]:
        """Return what a kernel of a dialect may be known to do instead."""
        return tuple(one for one in self.defects if not one.dialects or dialect in one.dialects)

    def expected(self, dialect: str, lacks: Callable[[str], str]) -> str:
        """Tell what a kernel must do.

        Args:
            dialect: what the kernel speaks.
            lacks: why the kernel lacks a capability, "" when it has it.

        Returns:
            "OK", an errno's name, or "absent: " and the reason.
        """
        if self.expect[dialect].startswith(ABSENT):
            return self.expect[dialect]
        for need in self.needs:
            if reason := lacks(need):
                return ABSENT + reason
        for key, result in self.expect.items():
            name, _, capability = key.partition(WITHOUT)
            if name == dialect and capability and lacks(capability):
                return result
        return self.expect[dialect]


@dataclass(frozen=True)
class Ladder:
    """The checks of a call in the kernel's order, each of which becomes a rule."""

    says: str
    source: tuple[str, ...]
    errors: Mapping[str, str]
    needs: Mapping[str, list[str]] = field(default_factory=dict)
    defects: Mapping[str, list[dict[str, str] | str]] = field(default_factory=dict)
    differences: Mapping[str, list[dict[str, str] | str]] = field(default_factory=dict)
