# SPDX-License-Identifier: GPL-2.0-only
"""Asks a kernel all there is to ask, with the devices that its machine has."""

from __future__ import annotations

from errno import EACCES, EPERM
from typing import TYPE_CHECKING

from pytest_iommufd.caps import behind, plain
from pytest_iommufd.caps.asker import Asker
from pytest_iommufd.caps.headers import Headers
from pytest_iommufd.caps.model import COMMANDS, MOCK, Column, Key, State
from pytest_iommufd.errors import Problem
from pytest_iommufd.iommufd import Context, IoctlError
from pytest_iommufd.iommufd.object import DEVICE
from pytest_iommufd.machine import passthrough
from pytest_iommufd.uapi import Uapi, UnknownNameError, errno_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_iommufd.lab import Bench
    from pytest_iommufd.machine import Process

_TEST_CMD = Key(COMMANDS, "IOMMU_TEST_CMD")


def ask(bench: Bench, others: Iterable[Uapi]) -> Column:
    """Ask a kernel what it has: by itself, and with a mock device if it has them.

    Args:
        bench: the kernel, whose machine is started.
        others: the headers of the other kernels that are asked.

    Returns:
        Its answers. A kernel without /dev/iommu has none.

    Raises:
        Problem: this user may not open /dev/iommu.
        Verdict: the machine is lost.
    """
    kernel, hello = bench.kernel, bench.machine.hello
    column = Column(
        kernel.spec, kernel.name, hello.release, kernel.source, bench.machine.acceleration
    )
    process = bench.machine.process()
    try:
        headers = _headers(bench, process, others)
        asker = Asker(process, headers)
        plain.ask(asker)
        column.answers |= asker.answers
    except OSError as error:
        column.absent = _no_device(error)
        return column
    finally:
        process.end()
    if column.answer(_TEST_CMD).state is State.YES:
        _with_device(bench, headers, column, MOCK, behind.mock)
    else:
        column.unasked[MOCK] = "the kernel has no iommufd_test: no CONFIG_IOMMUFD_TEST"
    return column


def ask_behind(bench: Bench, others: Iterable[Uapi], column: Column, iommu: str) -> None:
    """Ask a kernel with a real device behind an IOMMU.

    Args:
        bench: the same kernel, on a machine that has the IOMMU.
        others: the headers of the other kernels that are asked.
        column: takes the answers.
        iommu: the name of the IOMMU.

    Raises:
        Verdict: the machine is lost.
    """
    if column.absent:
        return
    try:
        node = passthrough.nodes(bench.machine)[0]
    except passthrough.UnavailableError as error:
        column.unasked[iommu] = str(error)
        return
    process = bench.machine.process()
    try:
        headers = _headers(bench, process, others)
    finally:
        process.end()
    _with_device(bench, headers, column, iommu, lambda asker: behind.real(asker, node))


def _with_device(
    bench: Bench, headers: Headers, column: Column, device: str, ask_it: Callable[[Asker], None]
) -> None:
    process = bench.machine.process()
    asker = Asker(process, headers, device)
    try:
        ask_it(asker)
    except (IoctlError, UnknownNameError) as error:
        column.unasked[device] = str(error)
    finally:
        column.answers |= asker.answers
        process.end()


def _headers(bench: Bench, process: Process, others: Iterable[Uapi]) -> Headers:
    """Return the headers to ask with; without an own one, the shipped one that suits comes first.

    Raises:
        OSError: /dev/iommu cannot be opened.
    """
    shipped = Uapi.shipped()
    if bench.header is None:
        context = Context(process, shipped[0])
        suiting = (uapi for uapi in shipped if _suits(uapi, context))
        shipped = (next(suiting, shipped[-1]), *shipped)
        context.close()
    return Headers(bench.header, dict.fromkeys((*shipped, *others)))


def _suits(uapi: Uapi, context: Context) -> bool:
    """Tell whether the kernel has all commands of a header, but for those of iommufd_test."""
    names = [ioctl.name for ioctl in uapi.ioctls if ioctl.name != _TEST_CMD.name]
    return all(context.has(name) for name in names)


def _no_device(error: OSError) -> str:
    """Say why a kernel has no /dev/iommu.

    Raises:
        Problem: it may have one.
    """
    name = errno_name(error.errno or 0)
    if error.errno in (EACCES, EPERM):
        raise Problem(
            f"{DEVICE} cannot be opened: {name}",
            expected="a user who may open it, with --kernel running",
            mend="run it as root",
        )
    return f"{DEVICE} cannot be opened: {name}"
