# SPDX-License-Identifier: GPL-2.0-only
"""A test that loses its machine, its process or its call fails, and those after it pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

LOST = """
import os, signal

def check(process):
    assert process.syscall("getpid").ret == process.pid

def test_panics(process):
    process.write_file("/proc/sysrq-trigger", b"c")

def test_after_panic(process, iommufd):
    check(process)
    iommufd.ioas_alloc()

def test_hangs(process):
    process.syscall("ppoll", 0, 0, 0, 0, seconds=0.5)

def test_after_hang(process, mock_device):
    check(process)

def test_is_killed(process):
    process.syscall("kill", process.pid, signal.SIGKILL)

def test_after_kill(process, mock_device):
    check(process)

def test_loses_qemu(process, machine):
    os.kill(machine.pid, signal.SIGKILL)
    process.syscall("getpid")

def test_after_qemu(process, mock_device):
    check(process)

def test_loses_qemu_while_it_fails(process, machine):
    os.kill(machine.pid, signal.SIGKILL)
    raise RuntimeError("of the test")

def test_after_both(process, mock_device):
    check(process)

def test_catches_its_panic(process, machine):
    try:
        process.write_file("/proc/sysrq-trigger", b"c")
    except Exception:
        pass

def test_after_caught(process, mock_device):
    check(process)
"""


def test_each_loss_is_that_test_s_alone(run: Callable[..., pytest.RunResult]) -> None:
    result = run(LOST, "-v")
    lines = result.stdout.lines
    outcomes = {
        line.split("::")[1].partition("[")[0]: line.split()[1]
        for line in lines
        if line.startswith("test_it.py::")
    }
    assert outcomes == {
        "test_panics": "FAILED",
        "test_after_panic": "PASSED",
        "test_hangs": "FAILED",
        "test_after_hang": "PASSED",
        "test_is_killed": "FAILED",
        "test_after_kill": "PASSED",
        "test_loses_qemu": "FAILED",
        "test_after_qemu": "PASSED",
        # it keeps its own failure, and its end tells of the loss
        "test_loses_qemu_while_it_fails": "ERROR",
        "test_after_both": "PASSED",
        "test_catches_its_panic": "PASSED",
        "test_after_caught": "PASSED",
    }
    result.assert_outcomes(passed=7, failed=5, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ test_panics[[]*",
            "the kernel panicked: sysrq triggered crash",
            "during: writing /proc/sysrq-trigger",
            "--- console ---",
            "*sysrq: Trigger a crash",
            "*Kernel panic - not syncing: sysrq triggered crash",
            "*_ test_hangs[[]*",
            "a call did not return within 0.5 s; its process was killed",
            "during: ppoll()",
            "*_ test_is_killed[[]*",
            "the process was killed by SIGKILL",
            "*_ test_loses_qemu[[]*",
            "the machine (QEMU) was killed by SIGKILL",
            "*_ test_loses_qemu_while_it_fails[[]*",
            "*RuntimeError: of the test",
        ]
    )
    # our own frames say nothing about a kernel
    result.stdout.no_fnmatch_line("*machine/session.py*")


CALLS = """
from errno import EINVAL
import pytest

def test_panics_in_a_fixture(panicking):
    pass

def test_after(iommufd):
    pass

def test_names_the_calls(iommufd, raises_errno):
    iommufd.ioas_alloc()
    with raises_errno(EINVAL):
        iommufd.ioas_alloc()

@pytest.fixture
def panicking(process):
    process.write_file("/proc/sysrq-trigger", b"c")
"""


def test_a_loss_in_a_fixture_is_an_error_of_that_test(run: Callable[..., pytest.RunResult]) -> None:
    result = run(CALLS, "-v")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at setup of test_panics_in_a_fixture[[]*",
            "the kernel panicked: sysrq triggered crash",
            "*_ test_names_the_calls[[]*",
            "*expected EINVAL, but the kernel accepted the call*",
            "*iommufd calls*",
            "IOMMU_IOAS_ALLOC(*) = OK",
            "IOMMU_IOAS_ALLOC(*) = OK",
        ]
    )
