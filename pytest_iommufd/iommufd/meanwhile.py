# SPDX-License-Identifier: GPL-2.0-only
"""Ioctls that are made while another one is stopped in the middle, by a page that it touches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.file import IoctlFile
    from pytest_iommufd.iommufd.request import Request
    from pytest_iommufd.iommufd.uffd import FaultingPage

# How often a call is made while a third thread goes to where it waits; the last time counts.
_TIMES = 1000
_ONE = (1).to_bytes(8, "little")


def meanwhile(
    context: IoctlFile,
    page: FaultingPage,
    stopped: Request,
    *others: Request,
    waiting: Request | None = None,
) -> list[int]:
    """Make an ioctl that touches a page, and others before the page is filled.

    Args:
        context: where.
        page: what stops the first.
        stopped: the first.
        others: what another thread does meanwhile, one after the other.
        waiting: what a third thread does before the others. It must have to wait for the first.

    Returns:
        The errno of each, 0 for success: of the stopped one, the others, the waiting one.
    """
    process, ready = context.process, 0
    first, second, third = Program(), Program(), Program()
    calls = [(0, context.add(first, stopped))]
    if waiting:
        ready = process.checked("eventfd2", 0, 0)
        page.wait(third)
        third.syscall("write", ready, context.put(_ONE), len(_ONE), must=True)
        last = [(2, context.add(third, waiting))]
        second.syscall("read", ready, context.put(_ONE), len(_ONE), must=True)
    else:
        page.wait(second)
        last = []
    times = _TIMES if waiting else 1
    calls += [(1, context.add(second, other, repeat=times)) for other in others]
    page.fill(second)
    programs = [first, second, third] if waiting else [first, second]
    results = process.run_parallel(programs, during=f"{stopped.name}, and others meanwhile")
    if waiting:
        process.checked("close", ready)
    return [call.take(results[thread]).errno for thread, call in calls + last]
