# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.machine.accel import choose
from pytest_iommufd.machine.vm import VirtualMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.lab import Bench
    from pytest_iommufd.machine import Process


@pytest.fixture
def vm(bench: Bench) -> Iterator[VirtualMachine]:
    """The run's guest, to be broken: it is booted again by whoever needs it next.

    It is not the fixture `machine`, so that nobody minds what it prints.
    """
    assert isinstance(bench.machine, VirtualMachine)
    yield bench.machine
    if bench.machine.running:
        for process in bench.machine.processes:
            process.end()


@pytest.fixture
def task(vm: VirtualMachine) -> Process:
    """A process in the guest; booted, if the test before has lost it."""
    return vm.process()


@pytest.fixture
def new_vm(
    kernel: Kernel, agent_program: Path, cache_root: Path
) -> Iterator[Callable[..., VirtualMachine]]:
    """Makes guests like the run's, but for what is given."""
    assert kernel.image
    acceleration = choose(kernel.image, cache_root)
    made: list[VirtualMachine] = []

    def make(**given: object) -> VirtualMachine:
        settings = {
            "image": kernel.image,
            "modules": kernel.modules,
            "agent": agent_program,
            "acceleration": acceleration,
            "memory": 512,
        }
        made.append(VirtualMachine(**(settings | given)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for machine in made:
        machine.stop()


def is_gone(pid: int, seconds: float = 3.0) -> bool:
    """Tell whether there is no such process, or soon is none."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def gone() -> Callable[..., bool]:
    """The function is_gone."""
    return is_gone
