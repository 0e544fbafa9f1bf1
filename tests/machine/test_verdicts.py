# SPDX-License-Identifier: GPL-2.0-only
"""Each way in which a guest, a process in it or a call can end has its own verdict."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.machine import (
    AgentFailed,
    CallHung,
    GuestExited,
    KernelPanicked,
    MachineLost,
    ProcessDied,
    StoodStill,
    StreamLost,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.machine import Process
    from pytest_iommufd.machine.vm import VirtualMachine


def test_a_panic_is_told_with_the_console(
    vm: VirtualMachine, task: Process, gone: Callable[..., bool]
) -> None:
    boots, qemu, folder = vm.boots, vm.pid, vm.folder
    with pytest.raises(KernelPanicked) as caught:
        task.write_file("/proc/sysrq-trigger", b"c")
    text = str(caught.value)
    assert text.startswith("the kernel panicked: sysrq triggered crash")
    assert "during: writing /proc/sysrq-trigger" in text
    # the console's last lines, in the order they were printed
    assert "sysrq: Trigger a crash" in text
    assert text.index("sysrq: Trigger a crash") < text.index("Kernel panic - not syncing")
    assert not vm.running
    assert gone(qemu)
    assert folder
    assert not folder.exists()
    assert "Kernel panic" in vm.console()

    # in the same test, the machine is lost; the next process boots it
    with pytest.raises(ProcessDied, match="has gone: its machine was lost"):
        task.syscall("getpid")
    assert not vm.running
    fresh = vm.process()
    assert vm.boots == boots + 1
    assert fresh.syscall("getpid").ret == fresh.pid
    # the number of the lost process is in use again, and yet it is another one
    with pytest.raises(ProcessDied, match="has gone: its machine was lost"):
        task.syscall("getpid")
    assert task.end().status is None
    assert fresh.syscall("getpid").ret == fresh.pid


def test_a_call_that_never_returns_is_told_with_where_it_is(
    vm: VirtualMachine, task: Process
) -> None:
    boots = vm.boots
    other = vm.process()
    with pytest.raises(CallHung) as caught:
        task.syscall("ppoll", 0, 0, 0, 0, seconds=0.5)
    text = str(caught.value)
    assert "a call did not return within 0.5 s; its process was killed" in text
    assert "during: ppoll()" in text
    assert "sysrq: Show Blocked State" in text
    assert f" of process {task.pid}:" in text
    assert "poll" in text.partition(" of process ")[2]
    assert other.syscall("getpid").ret == other.pid
    assert vm.boots == boots
    with pytest.raises(ProcessDied, match="SIGKILL earlier"):
        task.syscall("getpid")


def test_a_guest_that_stands_still_is_stopped(
    vm: VirtualMachine, task: Process, gone: Callable[..., bool]
) -> None:
    qemu = vm.pid
    os.kill(qemu, signal.SIGSTOP)
    with pytest.raises(StoodStill, match=r"for 0\.3 of 0\.3 s: its process was stopped") as caught:
        task.syscall("getpid", seconds=0.3)
    assert caught.value.console
    assert not vm.running
    assert gone(qemu)
    assert vm.process().syscall("getpid").errno == 0


def test_a_killed_process_is_told(vm: VirtualMachine, task: Process) -> None:
    with pytest.raises(ProcessDied, match="was killed by SIGKILL"):
        task.syscall("kill", task.pid, signal.SIGKILL)
    assert vm.process().syscall("getpid").errno == 0


def test_a_killed_thread_is_told(vm: VirtualMachine, task: Process) -> None:
    kills, waits = Program(), Program()
    kills.syscall("kill", task.pid, signal.SIGTERM)
    waits.syscall("ppoll", 0, 0, 0, 0)
    with pytest.raises(ProcessDied, match="was killed by SIGTERM"):
        task.run_parallel([waits, kills])
    assert vm.process().syscall("getpid").errno == 0


def test_qemu_killed_from_outside_is_told(vm: VirtualMachine, task: Process) -> None:
    os.kill(vm.pid, signal.SIGKILL)
    with pytest.raises(GuestExited, match=r"\(QEMU\) was killed by SIGKILL"):
        task.syscall("ppoll", 0, 0, 0, 0)
    assert vm.process().syscall("getpid").errno == 0


def test_qemu_killed_between_two_tests_is_told_by_the_first_use(
    vm: VirtualMachine, task: Process, gone: Callable[..., bool]
) -> None:
    assert task.pid
    os.kill(vm.pid, signal.SIGKILL)
    time.sleep(0.1)
    with pytest.raises(MachineLost):
        vm.process()
    assert vm.process().syscall("getpid").errno == 0
    assert gone(0, 0) is False  # the helper itself: our own group is there


def test_a_guest_that_restarts_is_told(vm: VirtualMachine, task: Process) -> None:
    with pytest.raises(GuestExited, match=r"\(QEMU\) exited with status 0"):
        task.write_file("/proc/sysrq-trigger", b"b")
    assert vm.process().syscall("getpid").errno == 0


def test_a_stream_that_ends_under_a_live_guest_is_told(vm: VirtualMachine, task: Process) -> None:
    # the guest would panic at once, its PID 1 having nothing to live for
    os.kill(vm.pid, signal.SIGSTOP)
    with socket.socket(fileno=os.dup(task.session._stream._reader)) as stream:
        stream.shutdown(socket.SHUT_RDWR)
    with pytest.raises(StreamLost, match=r"cannot send to the agent|closed its stream"):
        task.syscall("getpid")
    assert vm.process().syscall("getpid").errno == 0


def test_an_agent_that_loses_its_port_is_told_as_itself(vm: VirtualMachine, task: Process) -> None:
    with pytest.raises(AgentFailed, match="not the kernel: the stream to the host has ended"):
        task.write_file("/sys/bus/virtio/drivers/virtio_console/unbind", b"virtio0")
    assert vm.process().syscall("getpid").errno == 0


def test_an_agent_that_crashes_powers_the_guest_off(vm: VirtualMachine, task: Process) -> None:
    with pytest.raises(AgentFailed, match=r"it crashed \(signal 6\)") as caught:
        task.syscall("kill", 1, signal.SIGABRT)
    assert "Power down" in caught.value.console
    assert "panic" not in caught.value.console
    assert vm.process().syscall("getpid").errno == 0


def test_an_agent_without_memory_is_told_as_itself(vm: VirtualMachine, task: Process) -> None:
    task.write(task.arena, struct.pack("<QQ", 1 << 22, 1 << 22))
    task.checked("prlimit64", 1, resource.RLIMIT_AS, task.arena, 0)
    large = Program()
    large.write(task.arena, bytes(1 << 23))
    with pytest.raises(AgentFailed, match="no memory for a request"):
        task.run(large)
    assert vm.process().syscall("getpid").errno == 0


def test_ctrl_c_in_a_call_stops_the_machine(
    vm: VirtualMachine, task: Process, gone: Callable[..., bool]
) -> None:
    """An answer that nobody has read would be taken for the next one's."""
    qemu = vm.pid

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            task.syscall("ppoll", 0, 0, 0, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not vm.running
    assert gone(qemu)


def test_a_machine_lost_while_a_process_is_renewed_starts_again(vm: VirtualMachine) -> None:
    vm.process().renew()
    assert vm.pid
    os.kill(vm.pid, signal.SIGKILL)
    with pytest.raises(MachineLost):
        vm.process()
    assert vm.process().syscall("getpid").errno == 0
