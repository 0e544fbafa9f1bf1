# SPDX-License-Identifier: GPL-2.0-only
"""Tells at the end of a run what happened to machines and kernels and is no test's result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.lab import LAB

if TYPE_CHECKING:
    from collections.abc import Generator

REMARK = "iommufd_remark"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a report carry what was remarked since the last one, from workers too."""
    report = yield
    for bench in item.config.stash[LAB].benches:
        remarks = bench.machine.remarks
        report.user_properties += [(REMARK, f"{bench.kernel.name}: {each}") for each in remarks]
        remarks.clear()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell it, with the test during which it happened."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for key, value in getattr(report, "user_properties", ()):
                if key == REMARK:
                    terminalreporter.line(f"{report.nodeid}: {value}", yellow=True)
