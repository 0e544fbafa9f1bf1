# SPDX-License-Identifier: GPL-2.0-only
"""What is done after a splat depends on what it says, and on whose kernel it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.machine.aftermath import _why_unreliable, settle
from pytest_iommufd.machine.local import LocalMachine
from pytest_iommufd.machine.splat import Splat

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.machine.vm import VirtualMachine


RELIABLE = [
    "WARNING: CPU: 1 PID: 87 at drivers/iommu/iommufd/device.c:1012 f+0x4b/0x60",
    "iommufd: Time out waiting for iommufd object to become free",
]
UNRELIABLE = [
    "BUG: KASAN: slab-use-after-free in iommufd_hwpt_alloc+0x31a/0x5a0",
    "refcount_t: underflow; use-after-free.",
    "list_del corruption. prev->next should be ffff8880",
    "WARNING: possible circular locking dependency detected",
]


@pytest.mark.parametrize("title", RELIABLE + UNRELIABLE)
def test_what_makes_a_kernel_unreliable(title: str) -> None:
    assert bool(_why_unreliable(title)) is (title in UNRELIABLE)


@pytest.mark.parametrize("title", [RELIABLE[0], UNRELIABLE[0]])
def test_a_guest_is_booted_again_after_what_makes_it_unreliable(
    vm: VirtualMachine, title: str
) -> None:
    vm.process().end()
    settle(vm, [Splat(title, title)])
    boots_again = title in UNRELIABLE
    assert vm.running is not boots_again
    assert [title in remark for remark in vm.remarks] == [True] * boots_again
    vm.remarks.clear()


def test_this_machine_is_not_booted_again_and_that_is_said(agent_program: Path) -> None:
    machine = LocalMachine(agent_program)
    process = machine.process()
    settle(machine, [Splat("BUG: KASAN: use-after-free in f", "")])
    assert process.alive
    (remark,) = machine.remarks
    assert remark.startswith("this machine should be booted again, and is not: memory may be")
    machine.stop()
