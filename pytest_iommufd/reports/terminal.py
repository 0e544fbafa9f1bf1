# SPDX-License-Identifier: GPL-2.0-only
"""The rules' results at the end of pytest's own report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_iommufd.rules.verdicts import Mark
from pytest_iommufd.uapi.undescribed import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_iommufd.reports.data import KernelInfo
    from pytest_iommufd.rules.verdicts import Verdicts


# Of the reasons for which rules are absent, how many are shown of a kernel: one that was built
# without what most rules need must not look as if all was tested.
_REASONS = 3

# Of what a newer kernel's header has: what is tested of it, and what nobody can test unasked.
_UNDESCRIBED = {
    Kind.COMMAND: "its number, sizes, bytes beyond its struct and bad pointers are tested; without "
    "a valid call in suites/generic/samples.py flags, reserved fields, IDs and answers are not",
    Kind.BARE_COMMAND: "its number and bad pointers are tested, and nothing that takes a struct",
    Kind.STRUCT: "its layout is compared with the compiler's; its use is not tested",
    Kind.FIELD: "structs that end before it or have 0 in it are tested; its values are not",
    Kind.FLAG: "it counts as a flag that the kernel may accept; what it does is not tested",
    Kind.VALUE: "it counts as a value that the kernel may accept; what it does is not tested",
}


def summary(
    reporter: pytest.TerminalReporter, verdicts: Verdicts, kernels: Mapping[str, KernelInfo]
) -> None:
    """Print what does not hold, and counts; all that ran with -v, and what did not with -vv.

    Args:
        reporter: pytest's.
        verdicts: complete.
        kernels: what is known of the kernels, by name.
    """
    reporter.section("iommufd rules")
    verbosity = reporter.config.get_verbosity()
    shown = [slug for slug in verdicts.slugs if _is_shown(verdicts, slug, verbosity)]
    if shown:
        head, *rows = table(verdicts, shown)
        reporter.line(head)
        for slug, row in zip(shown, rows, strict=True):
            reporter.line(row, red=any(verdicts.of(name, slug).failed for name in verdicts.kernels))
    for kernel in verdicts.kernels:
        reporter.line(f"{kernel}: {counts(verdicts, kernel)}")
        for line in absences(verdicts, kernel):
            reporter.line(line)
    for info in kernels.values():
        for line in newer(info):
            reporter.line(line, yellow=True)
    if len(verdicts.kernels) > 1:
        ran = [slug for slug in verdicts.slugs if verdicts.ran(slug)]
        differing = sum(verdicts.differs(slug) for slug in ran)
        reporter.line(f"{differing} of {len(ran)} rules differ between these kernels")


def table(verdicts: Verdicts, slugs: list[str]) -> list[str]:
    """Return a head, and a line for each rule with its mark on each kernel."""
    rows = [["rule", *verdicts.kernels]]
    rows += [
        [slug, *(verdicts.of(kernel, slug).mark.value for kernel in verdicts.kernels)]
        for slug in slugs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def newer(kernel: KernelInfo) -> list[str]:
    """Name what of a kernel's header the suites do not describe, with what is tested of it."""
    lines = [f"{kernel.name}: the header has what is not yet described:"]
    for kind, told in _UNDESCRIBED.items():
        names = [name for name, its in kernel.undescribed.items() if its == kind.value]
        lines += [f"  {kind.value} {name}" for name in names]
        lines += [f"    {told}"] * bool(names)
    return lines if kernel.undescribed else []


def counts(verdicts: Verdicts, kernel: str) -> str:
    """Say how many rules of a kernel have each mark."""
    return ", ".join(f"{count} {mark.value}" for mark, count in verdicts.counts(kernel).items())


def absences(verdicts: Verdicts, kernel: str) -> list[str]:
    """Say for which reasons most of a kernel's absent rules are absent."""
    results = [verdicts.of(kernel, slug) for slug in verdicts.slugs]
    reasons = Counter(result.reason for result in results if result.mark is Mark.ABSENT)
    lines = [f"  {count} absent: {reason}" for reason, count in reasons.most_common(_REASONS)]
    if others := len(reasons) - len(lines):
        lines.append(f"  {others} more reasons are in the files of --rules-json and --rules-html")
    return lines


def _is_shown(verdicts: Verdicts, slug: str, verbosity: int) -> bool:
    if verbosity > 0:
        return verbosity > 1 or verdicts.ran(slug)
    results = [verdicts.of(kernel, slug) for kernel in verdicts.kernels]
    return any(result.failed or result.mark in {Mark.DEFECT, Mark.DIFFERS} for result in results)
