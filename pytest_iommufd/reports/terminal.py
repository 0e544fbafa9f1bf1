# SPDX-License-Identifier: GPL-2.0-only
"""The rules' results at the end of pytest's own report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    import pytest

    from pytest_iommufd.rules.verdicts import Verdicts


def summary(reporter: pytest.TerminalReporter, verdicts: Verdicts) -> None:
    """Print what does not hold, and counts; all that ran with -v, and what did not with -vv."""
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


def counts(verdicts: Verdicts, kernel: str) -> str:
    """Say how many rules of a kernel have each mark."""
    return ", ".join(f"{count} {mark.value}" for mark, count in verdicts.counts(kernel).items())


def _is_shown(verdicts: Verdicts, slug: str, verbosity: int) -> bool:
    if verbosity > 0:
        return verbosity > 1 or verdicts.ran(slug)
    results = [verdicts.of(kernel, slug) for kernel in verdicts.kernels]
    return any(result.failed or result.mark in {Mark.DEFECT, Mark.DIFFERS} for result in results)
