# SPDX-License-Identifier: GPL-2.0-only
"""A known defect as a mail to the list of those who can mend it."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_iommufd.rules.quote import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_iommufd.rules.catalogue import Catalogue
    from pytest_iommufd.rules.model import Defect, Rule

_TO = "iommu@lists.linux.dev"
_WIDTH = 72
_FOLDER = "drivers/iommu/iommufd/"
# How subjects begin, by the beginning of the path of what is wrong.
_PREFIXES = {
    f"{_FOLDER}selftest.c": "iommufd/selftest",
    "drivers/iommu/intel/": "iommu/vt-d",
    "drivers/iommu/amd/": "iommu/amd",
    "drivers/iommu/generic_pt/": "iommupt",
}


@dataclass(frozen=True)
class Tested:
    """A kernel of the run.

    Attributes:
        release: its `uname -r`.
        source: where it came from.
        tree: its source, None when that is not known.
    """

    release: str
    source: str
    tree: Path | None

    def __str__(self) -> str:
        return f"{self.release}, {self.source}"


@dataclass(frozen=True)
class Broken:
    """A rule that kernels have broken by a known defect.

    Attributes:
        slug: its name, of a rule that stands for many one of those.
        rule: its entry.
        catalogue: where that is.
        defect: the defect.
        shown: by the kernels that showed it, in the run's order: the result, as the JSON report
            has it.
        holds: kernels of the run that hold the rule.
    """

    slug: str
    rule: Rule
    catalogue: Catalogue
    defect: Defect
    shown: Mapping[Tested, Mapping[str, Any]]
    holds: Sequence[Tested] = ()

    @property
    def kernel(self) -> Tested:
        """The kernel that the mail is about: the last that showed it."""
        return list(self.shown)[-1]

    @property
    def result(self) -> Mapping[str, Any]:
        """What that gave."""
        return self.shown[self.kernel]


def first(broken: Sequence[Broken]) -> Broken:
    """Of rules that one defect breaks, return the one to write of: one that is promised."""
    return next((one for one in broken if one.rule.promise), broken[0])


def subject(one: Broken) -> str:
    """Return the subject of a mail, in the kernel's style."""
    path = _place(one)[0]
    prefix = next((word for begin, word in _PREFIXES.items() if path.startswith(begin)), "iommufd")
    return f"{prefix}: {one.defect.why}"


def letter(broken: Sequence[Broken], program: str) -> str:
    """Write the mail.

    Args:
        broken: the rules that one defect breaks.
        program: C that shows the defect by the `first` of them.

    Returns:
        The mail, with those headers that do not depend on who sends it.
    """
    one = first(broken)
    path, function = _place(one)
    where = path if f"{function}()" in one.defect.why else f"{function}() in {path}"
    parts = [
        [f"This does not hold on Linux {one.kernel.release}:"],
        [f"  {line}" for line in _wrapped(one.rule.says)],
        _section("What the kernel did", [one.result["reason"]]),
        _section("What is promised", _promised(one)),
        _section("What is wrong", [*_wrapped(one.defect.why), where]),
        _section("Kernels", _kernels(one)),
        _section("The last ioctls of the test", one.result["calls"]),
        _section("The kernel's log", one.result["console"].splitlines()),
        _section(
            "The same defect breaks",
            (line for other in broken if other is not one for line in _named(other)),
        ),
        [
            f"Rule {one.slug} of pytest-iommufd, which runs it again with",
            *("", f"  {one.result['again']}", ""),
            "This program shows it; its head says how to build it, and what its exit",
            "status means:",
            "",
            program.rstrip("\n"),
        ],
    ]
    headers = [
        f"To: {_TO}",
        f"Subject: {subject(one)}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
        "Content-Transfer-Encoding: 8bit",
    ]
    body = "\n\n".join("\n".join(part) for part in parts if part)
    return "\n".join([*headers, "", body, ""])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)


def _named(one: Broken) -> list[str]:
    return [f"{one.slug}:", *(f"  {line}" for line in _wrapped(one.rule.says))]


def _section(title: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    found = [f"  {line}".rstrip() for line in lines]
    return [f"{title}:", *found] if found else []


def _promised(one: Broken) -> Iterator[str]:
    links = [one.catalogue.link(promise) for promise in one.rule.promise]
    for promise, link, after in zip(one.rule.promise, links, [*links[1:], ""], strict=True):
        yield f"{one.catalogue.promised(promise)}:"
        if one.kernel.tree:
            about = f"{one.rule.says} {one.defect.why}"
            yield from (f"> {line}" for line in quote(one.kernel.tree, promise, about))
        if link != after:
            yield link
    if one.rule.behaviour:
        yield f"nothing: {one.rule.behaviour}"


def _kernels(one: Broken) -> Iterator[str]:
    yield from (f"shown by: {kernel}" for kernel in one.shown)
    yield from (f"not shown by: {kernel}" for kernel in one.holds)
    for about, known in (
        ("seen before", one.defect.seen),
        ("mended in", one.defect.mended),
        ("reported", one.defect.reported),
    ):
        if known:
            yield f"{about}: {known}"


def _place(one: Broken) -> tuple[str, str]:
    """Return the path and the function of what is wrong: the source that `why` names, if any."""
    places = [
        (file if "/" in file else f"{_FOLDER}{file}", function)
        for file, _, function in (source.partition(":") for source in one.rule.source)
        if file.endswith((".c", ".h"))
    ]
    named = [place for place in places if re.search(rf"\b{place[1]}\(\)", one.defect.why)]
    return next(iter([*named, *places]), (_FOLDER, ""))
