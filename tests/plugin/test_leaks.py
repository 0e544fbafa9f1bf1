# SPDX-License-Identifier: GPL-2.0-only
"""What a test leaves behind is cleaned up, or is that test's failure; the next one is not hurt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

CLEANED = """
from pytest_iommufd.iommufd import Context

def test_leaves_a_context_open(iommufd, mock_device):
    pass

def test_leaves_a_device_in_a_fork(process, mock_device):
    process.fork()

def test_leaves_a_device_in_a_fork_whose_parent_has_ended(process, mock_device):
    child = process.fork()
    process.end()
    assert child.syscall("getpid").ret == child.pid

def test_leaves_a_context_of_another_process(machine, uapi, process):
    other = machine.process()
    context = Context(other, uapi)
    context.mock_device(context.ioas_alloc())

def test_leaves_pages_mapped(ioas, mock_device, buffer):
    ioas.map(buffer)

def test_closes_all_itself(iommufd, mock_device):
    iommufd.close()

def test_finds_no_device(process):
    import os
    fd = process.open("/sys/bus/iommufd_mock/devices", os.O_DIRECTORY)
    got = process.syscall("getdents64", fd, process.arena, 4096)
    assert got.ret == 2 * 24  # "." and ".."
"""


def test_what_is_left_open_is_cleaned_up(run: Callable[..., pytest.RunResult]) -> None:
    run(CLEANED).assert_outcomes(passed=7)


LEFT = """
from pytest_iommufd.iommufd import Context

def test_leaves_a_device_in_a_process_that_nobody_knows(process, machine, uapi):
    other = machine.process()
    context = Context(other, uapi)
    context.mock_device(context.ioas_alloc())
    del process.session.workers[other.worker]

def test_after_the_device(iommufd, mock_device):
    pass

def test_leaves_pages_pinned_by_a_fork(process, ioas, mock_device, buffer):
    ioas.map(buffer)
    hidden = process.fork()
    del process.session.workers[hidden.worker]

def test_after_the_pages(ioas, mock_device, buffer):
    ioas.map(buffer)
"""


def test_what_is_left_in_the_kernel_fails_the_test_that_left_it(
    run: Callable[..., pytest.RunResult],
) -> None:
    result = run(LEFT, "-v")
    result.assert_outcomes(passed=4, errors=2)
    result.stdout.fnmatch_lines(
        [
            "*_ ERROR at teardown of test_leaves_a_device_in_a_process_that_nobody_knows[[]*",
            "*1 mock devices are left in /sys/bus/iommufd_mock/devices*",
            "*_ ERROR at teardown of test_leaves_pages_pinned_by_a_fork[[]*",
            "*are still pinned after all contexts were closed*",
        ]
    )
