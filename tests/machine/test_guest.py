# SPDX-License-Identifier: GPL-2.0-only
"""What only the guest has: its kernel log, fault injection, and the agent as PID 1."""

from __future__ import annotations

import errno
import os
import resource
import struct
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.machine import Process
    from pytest_iommufd.machine.vm import VirtualMachine

NTH_LIMIT = 500


def test_the_guest_is_what_was_asked_for(vm: VirtualMachine, kernel: Kernel) -> None:
    hello = vm.wait()
    assert hello.release == kernel.release
    assert hello.release != os.uname().release
    assert hello.cpus == 2
    assert hello.kmsg
    assert hello.complaints == ()


def test_the_kernel_s_log_is_told_line_by_line(vm: VirtualMachine, task: Process) -> None:
    before = vm.sync_log()
    task.write_file("/dev/kmsg", b"one line\n")
    task.write_file("/dev/kmsg", "first\n second; with \\ and ü\n".encode())
    vm.sync_log()
    assert vm.log[before:] == ["one line", "first", " second; with \\ and ü"]


def test_a_long_log_comes_whole(vm: VirtualMachine, task: Process) -> None:
    before = vm.sync_log()
    for _ in range(5):
        task.write_file("/proc/sysrq-trigger", b"t")
    vm.sync_log()
    lines = vm.log[before:]
    starts = [at for at, line in enumerate(lines) if line == "sysrq: Show State"]
    assert len(starts) == 5
    for first, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        # every task, from the first to the one that asked
        assert f"pid:{task.pid}" in " ".join(lines[first:end])
        assert "task:init" in " ".join(lines[first:end])


def test_a_fault_is_injected_into_just_that_call(task: Process) -> None:
    for knob in ("failslab/ignore-gfp-wait", "fail_page_alloc/ignore-gfp-wait"):
        task.write_file(f"/sys/kernel/debug/{knob}", b"N")
    failed = 0
    for nth in range(1, NTH_LIMIT):
        result = task.syscall("eventfd2", 0, 0, fail_nth=nth)
        if result.fail_nth_left:
            assert result.errno == 0  # it has fewer points: no fault was injected
            break
        failed += 1
        assert result.errno in {0, errno.ENOMEM}
    assert 0 < failed < NTH_LIMIT
    # and nothing is left of it for the next call, even one in another thread
    assert task.syscall("eventfd2", 0, 0).errno == 0


def test_a_fault_is_injected_into_each_repetition(task: Process) -> None:
    task.write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", b"N")
    result = task.syscall("eventfd2", 0, 0, fail_nth=1, repeat=3)
    assert (result.errno, result.fail_nth_left, len(result.times)) == (errno.ENOMEM, 0, 3)


def test_a_fault_is_injected_where_a_test_has_used_up_its_descriptors(task: Process) -> None:
    task.write(task.arena, struct.pack("<QQ", 0, 4096))
    task.checked("prlimit64", 0, resource.RLIMIT_NOFILE, task.arena, 0)
    result = task.syscall("eventfd2", 0, 0, fail_nth=400)
    assert result.errno == errno.EMFILE
    assert result.fail_nth_left


def test_a_process_may_give_up_its_rights_and_still_be_asked(task: Process) -> None:
    assert task.syscall("setresgid", 1000, 1000, 1000).errno == 0
    assert task.syscall("setresuid", 1000, 1000, 1000).errno == 0
    assert task.syscall("openat", -100, 0, 0, 0).errno == errno.EFAULT
    with pytest.raises(PermissionError):
        task.write_file("/proc/sysrq-trigger", b"h")
    child = task.fork()
    assert child.syscall("getpid").ret == child.pid
    with pytest.raises(PermissionError):
        child.write_file("/proc/sysrq-trigger", b"h")


def test_forks_whose_parent_has_ended_do_not_pile_up(vm: VirtualMachine) -> None:
    pids = []
    for parent_first in (True, False, True):
        parent = vm.process()
        child = parent.fork()
        for process in (parent, child) if parent_first else (child, parent):
            process.end()
        pids.append(child.pid)
    watcher = vm.process()
    for pid in pids:
        with pytest.raises(FileNotFoundError):
            watcher.read_file(f"/proc/{pid}/stat")


def test_a_process_is_renewed_without_a_wait(vm: VirtualMachine) -> None:
    first = vm.process()
    first.renew()
    assert not first.alive
    vm.sync_log()  # the answers to what was asked before may come while another is awaited
    second = vm.process()
    assert second.pid != first.pid
    assert second.syscall("getpid").ret == second.pid
    with pytest.raises(OSError, match="No such file"):
        second.read_file(f"/proc/{first.pid}/stat")
    second.end()
    assert vm.processes == ()


def test_a_process_started_ahead_may_be_forked_and_ended(vm: VirtualMachine) -> None:
    vm.process().renew()
    second = vm.process()
    third = second.fork()
    second.renew()
    fourth, fifth = vm.process(), vm.process()
    assert len({third.worker, fourth.worker, fifth.worker}) == 3
    for process in (third, fourth, fifth):
        assert process.syscall("getpid").ret == process.pid
        process.end()
