# SPDX-License-Identifier: GPL-2.0-only
"""Ioctls that are made while another one is stopped in the middle, by a page that it touches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent.protocol import Program

if TYPE_CHECKING:
    from pytest_iommufd.agent.protocol import Ref
    from pytest_iommufd.iommufd.context import Context
    from pytest_iommufd.iommufd.uffd import FaultingPage

# An ioctl's name and the fields of its struct.
Request = tuple[str, dict[str, Any]]
# How often a call is made while a third thread goes to where it waits; the last time counts.
_TIMES = 1000
_ONE = (1).to_bytes(8, "little")


def meanwhile(
    context: Context,
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
    made = [(0, _add(context, first, stopped))]
    if waiting:
        ready = process.checked("eventfd2", 0, 0)
        page.wait(third)
        third.syscall("write", ready, context.put(_ONE), len(_ONE), must=True)
        last = [(2, _add(context, third, waiting))]
        second.syscall("read", ready, context.put(_ONE), len(_ONE), must=True)
    else:
        page.wait(second)
        last = []
    times = _TIMES if waiting else 1
    made += [(1, _add(context, second, other, times)) for other in others]
    page.fill(second)
    programs = [first, second, third] if waiting else [first, second]
    results = process.run_parallel(programs, during=f"{stopped[0]}, and others meanwhile")
    if waiting:
        process.checked("close", ready)
    return [results[thread][ref.index].errno for thread, ref in made + last]


def _add(context: Context, program: Program, request: Request, times: int = 1) -> Ref:
    name, fields = request
    ioctl = context.uapi.ioctl(name)
    size = context.uapi.fields(ioctl.struct)[0]  # of VFIO's structs it is argsz
    given: dict[str, Any] = {size: context.uapi.sizeof(ioctl.struct)} | fields
    plain = {
        key: value if isinstance(value, dict) else value.__index__() for key, value in given.items()
    }
    at = context.put(bytes(context.uapi.struct(ioctl.struct, **plain)))
    return program.syscall("ioctl", context.fd, ioctl.number, at, repeat=times)
