# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel needs after a splat, so that the next one is seen and can be believed."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from pytest_iommufd.machine.verdict import Verdict

if TYPE_CHECKING:
    from pytest_iommufd.machine.machine import Machine
    from pytest_iommufd.machine.splat import Splat

_CLEAR_WARN_ONCE = "/sys/kernel/debug/clear_warn_once"
# After these a kernel cannot be relied on, or does not report the like again until it is booted.
_UNRELIABLE = {
    "memory may be corrupted": (
        r"BUG: KASAN",  # which also reports but the first
        r"BUG: KFENCE",
        r"BUG: Bad ",
        r"refcount_t: ",
        r"list_(add|del) corruption",
        r"kernel BUG at ",
    ),
    "a task was killed in the kernel, with all that it held": (
        r"BUG: kernel NULL pointer",
        r"BUG: unable to handle",
        r"Unable to handle kernel ",
        r"general protection fault",
        r"Oops: ",
        r"BUG: (soft lockup|workqueue lockup|scheduling while atomic)",
        r"INFO: task .* blocked for more than",
        r"INFO: rcu_\w+ (self-)?detected",
    ),
    "UBSAN reports each place once": (r"UBSAN: ",),
    "lockdep is off after its first report": (
        r"WARNING: possible (circular locking|recursive locking|irq lock inversion)",
        r"WARNING: .*(-unsafe lock order|inconsistent lock state|bad unlock balance)",
        r"WARNING: .*(held lock freed|lock held when returning|Nested lock was not taken)",
        r"INFO: trying to register non-static key",
        r"BUG: (MAX_LOCK|key .* has not been registered)",
    ),
}


def settle(machine: Machine, splats: list[Splat]) -> None:
    """Boot a guest again after what makes its kernel unreliable; else have it warn once more.

    Args:
        machine: whose kernel has reported; between two tests.
        splats: what it has reported.
    """
    for title in (splat.title for splat in splats):
        why = _why_unreliable(title)
        if why and machine.restarts:
            machine.stop()
            machine.remarks.append(f"the guest is booted again: {why} ({title})")
            return
        if why:
            machine.remarks.append(
                f"this machine should be booted again, and is not: {why} ({title})"
            )
    if splats and machine.running:
        _clear_warn_once(machine)


def _why_unreliable(title: str) -> str:
    return next(
        (why for why, ones in _UNRELIABLE.items() if any(re.search(one, title) for one in ones)), ""
    )


def _clear_warn_once(machine: Machine) -> None:
    """Have what warns but once (WARN_ONCE, pr_warn_once) do so again, where debugfs has that."""
    # it is nothing that the test did
    observers, machine.observers[:] = machine.observers[:], []
    with contextlib.suppress(Verdict, OSError):
        process = machine.process()
        try:
            process.write_file(_CLEAR_WARN_ONCE, b"1")
        finally:
            process.end()
    machine.observers[:] = observers
