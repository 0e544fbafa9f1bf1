# SPDX-License-Identifier: GPL-2.0-only
"""A test whose guest could not run is run again; what else happens to guests is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Run = Callable[..., pytest.RunResult]

STILL = """
import os, signal, threading
from pathlib import Path
import pytest
from pytest_iommufd import rule

@pytest.fixture
def first(request):
    seen = Path(request.node.name)
    yield not seen.exists()
    seen.touch()

@pytest.fixture(scope="session")
def shared(machine):
    return machine.process()

def test_misses_its_deadline(process, machine, first, shared):
    if first:
        os.kill(machine.pid, signal.SIGSTOP)
    process.syscall("getpid", seconds=1)
    shared.syscall("getpid")

def test_is_told_of_a_stall(process, machine, first):
    if not first:
        return
    process.write_file("/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", b"3")
    for after, number in ((0.5, signal.SIGSTOP), (8.5, signal.SIGCONT)):
        threading.Timer(after, os.kill, (machine.pid, number)).start()
    while not any("rcu" in line and "detected" in line for line in machine.log):
        file = process.syscall("memfd_create", process.arena, 0, seconds=40).ret
        process.syscall("close", file, seconds=40)  # frees an inode by RCU

@rule("guest.stands_still")
def test_never_gets_to_run(process, machine):
    os.kill(machine.pid, signal.SIGSTOP)
    process.syscall("getpid", seconds=1)

def test_after(iommufd):
    pass
"""


def test_a_test_whose_guest_stood_still_is_run_again(run: Run) -> None:
    result = run(STILL)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_never_gets_to_run[[]*",
            "the machine stood still for 1.0 of 1 s: its process was stopped",
            "during: getpid()",
            "*::test_misses_its_deadline[[]*: the machine stood still for *; the test was run *",
            "*::test_is_told_of_a_stall[[]*: the machine stood still for *(*rcu*detected *stall*",
            "*: 1 not run",
        ]
    )


# What is printed but once stays silent until debugfs's clear_warn_once is written to, as a
# WARN_ONCE() does: both keep their notes in the same place.
AFTER = """
import errno

EXECVE = 59  # on x86-64
BOOTS = []

def print_once(process, machine):
    before = machine.sync_log()
    process.write(process.arena, b"/init\\0")
    assert process.syscall(EXECVE, process.arena, 0, 1).errno == errno.EFAULT
    machine.sync_log()
    BOOTS.append(machine.boots)
    return any("with NULL argv" in line for line in machine.log[before:])

def test_first(process, machine):
    assert print_once(process, machine)
    assert not print_once(process, machine)

def test_warns(process):
    process.write_file("/dev/kmsg", b"WARNING: CPU: 0 PID: 1 at drivers/x.c:1 f+0x1/0x2\\n")

def test_prints_once_more(process, machine):
    assert print_once(process, machine)
    assert len(set(BOOTS)) == 1

def test_corrupts_memory(process):
    process.write_file("/dev/kmsg", b"BUG: KASAN: slab-use-after-free in f+0x1/0x2\\n")

def test_has_another_guest(process, machine):
    assert machine.boots == BOOTS[-1] + 1
"""


def test_what_a_splat_leaves_is_seen_to(run: Run) -> None:
    result = run(AFTER, "-rA")
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        ["*::test_corrupts_memory[[]*: the guest is booted again: memory may be corrupted *"]
    )
