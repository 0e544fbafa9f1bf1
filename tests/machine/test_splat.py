# SPDX-License-Identifier: GPL-2.0-only
"""What is a report of the kernel about itself, in logs as they come from /dev/kmsg."""

from __future__ import annotations

import pytest

from pytest_iommufd.machine.splat import PANIC, find_splats

WARNING = """\
------------[ cut here ]------------
WARNING: CPU: 1 PID: 87 at drivers/iommu/iommufd/device.c:1012 iommufd_access_destroy+0x4b/0x60
Modules linked in: iommufd
CPU: 1 UID: 0 PID: 87 Comm: worker Not tainted 6.12.1 #1
RIP: 0010:iommufd_access_destroy+0x4b/0x60
Call Trace:
 <TASK>
 iommufd_fops_release+0x8e/0x100
 </TASK>
---[ end trace 0000000000000000 ]---"""

REFCOUNT = """\
------------[ cut here ]------------
refcount_t: underflow; use-after-free.
WARNING: CPU: 0 PID: 71 at lib/refcount.c:28 refcount_warn_saturate+0xbe/0x110
Call Trace:
 <TASK>
 iommufd_object_remove+0x12/0x80
---[ end trace 0000000000000000 ]---"""

KASAN = """\
==================================================================
BUG: KASAN: slab-use-after-free in iommufd_hwpt_alloc+0x31a/0x5a0
Read of size 8 at addr ffff888004f1b010 by task worker/87

Call Trace:
 <TASK>
 dump_stack_lvl+0x4f/0x70
Freed by task 87:
 kfree+0xb3/0x2f0
=================================================================="""

OOPS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000018
#PF: supervisor read access in kernel mode
Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI
RIP: 0010:iommufd_ioas_map+0x21/0x1c0
---[ end trace 0000000000000000 ]---"""

KERNEL_BUG = """\
------------[ cut here ]------------
kernel BUG at drivers/iommu/iommufd/pages.c:190!
Oops: invalid opcode: 0000 [#1] SMP
---[ end trace 0000000000000000 ]---"""

HUNG_TASK = """\
INFO: task worker:112 blocked for more than 122 seconds.
      Not tainted 6.12.1 #1
"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.
task:worker          state:D stack:0     pid:112
Call Trace:
 iommufd_object_destroy_user+0x81/0x90"""

LOCKDEP = """\

======================================================
WARNING: possible circular locking dependency detected
6.12.1 #1 Not tainted
------------------------------------------------------
worker/90 is trying to acquire lock:
ffff8880048d60a8 (&ictx->destroy_rwsem){++++}-{3:3}, at: iommufd_get_object+0x2b/0xb0"""

LEAK = "iommufd: Time out waiting for iommufd object to become free"

GOLDEN = {
    "WARNING": (WARNING, "WARNING: CPU: 1 PID: 87 at drivers/iommu/iommufd/device.c:1012"),
    "refcount_t": (REFCOUNT, "refcount_t: underflow; use-after-free."),
    "KASAN": (KASAN, "BUG: KASAN: slab-use-after-free in iommufd_hwpt_alloc+0x31a/0x5a0"),
    "NULL pointer": (OOPS, "BUG: kernel NULL pointer dereference, address: 0000000000000018"),
    "BUG": (KERNEL_BUG, "kernel BUG at drivers/iommu/iommufd/pages.c:190!"),
    "hung task": (HUNG_TASK, "INFO: task worker:112 blocked for more than 122 seconds."),
    "lockdep": (LOCKDEP, "WARNING: possible circular locking dependency detected"),
    "object leak": (LEAK, LEAK),
    "UBSAN": (
        "UBSAN: shift-out-of-bounds in drivers/iommu/iommufd/pages.c:97:3\nshift exponent 64",
        "UBSAN: shift-out-of-bounds",
    ),
    "general protection": (
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000100",
        "Oops: general protection fault",
    ),
    "list": ("list_del corruption. prev->next should be ffff8880", "list_del corruption"),
    "rcu": ("rcu: INFO: rcu_preempt self-detected stall on CPU", "rcu: INFO: rcu_preempt"),
    "sleeping": (
        "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585",
        "BUG: sleeping function called from invalid context",
    ),
    "kmemleak": (
        "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "kmemleak: 3 new suspected memory leaks",
    ),
}

QUIET = """\
iommufd_mock iommufd_mock0: Adding to iommu group 0
FAULT_INJECTION: forcing a failure.
name failslab, interval 1, probability 0, space 0, times 0
Call Trace:
 <TASK>
 dump_stack_lvl+0x4f/0x70
 should_fail_ex+0x1a2/0x1d0
sysrq: Show Blocked State
process 'init' launched '/bin/x' with NULL argv: empty string added
worker (87) used greatest stack depth: 12840 bytes left
kmemleak: Kernel memory leak detector initialized"""


@pytest.mark.parametrize(("log", "title"), GOLDEN.values(), ids=GOLDEN)
def test_each_kind_of_report_is_one_splat(log: str, title: str) -> None:
    (splat,) = find_splats(log.splitlines())
    assert splat.title.startswith(title)
    assert title in splat.text


@pytest.mark.parametrize("log", [WARNING, REFCOUNT, KERNEL_BUG], ids=["WARNING", "refcount", "BUG"])
def test_a_report_with_marks_is_taken_whole_and_alone(log: str) -> None:
    around = ["before", *log.splitlines(), "after"]
    (splat,) = find_splats(around)
    assert splat.text == log


def test_a_report_s_sentence_names_the_function() -> None:
    (oops,), (warning,) = find_splats(OOPS.splitlines()), find_splats(WARNING.splitlines())
    assert oops.sentence == f"{oops.title} in iommufd_ioas_map()"
    assert warning.sentence == warning.title


def test_reports_that_follow_each_other_are_told_apart() -> None:
    log = f"{QUIET}\n{WARNING}\nbetween\n{REFCOUNT}\n{OOPS}\n{QUIET}\n{KASAN}"
    assert [splat.title.split(" ")[0] for splat in find_splats(log.splitlines())] == [
        "WARNING:",
        "refcount_t:",
        "BUG:",
        "BUG:",
    ]


def test_a_report_that_is_cut_off_by_the_next_keeps_both() -> None:
    lines = [*WARNING.splitlines()[:-1], *REFCOUNT.splitlines()]
    first, second = find_splats(lines)
    assert first.title.startswith("WARNING")
    assert second.title.startswith("refcount_t")
    assert "refcount_t" not in first.text


def test_a_report_without_an_end_is_of_a_bounded_size() -> None:
    lines = ["BUG: KFENCE: out-of-bounds read", *["noise"] * 500]
    (splat,) = find_splats(lines)
    assert len(splat.text.splitlines()) == 40


@pytest.mark.parametrize("log", ["", QUIET, "a WARNING of no kind", "debugging on", "BUGS: 0"])
def test_what_is_no_report_is_none(log: str) -> None:
    assert find_splats(log.splitlines()) == []


def test_a_panic_says_why() -> None:
    line = "[    1.2] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"
    found = PANIC.search(line)
    assert found
    assert found["why"] == "Attempted to kill init! exitcode=0x00000100"
