# SPDX-License-Identifier: GPL-2.0-only
"""Guests that never come to serve, each with its own sentence."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.machine import BootFailed
from pytest_iommufd.machine.accel import Acceleration
from pytest_iommufd.machine.machine import _BootError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_iommufd.machine.vm import VirtualMachine

    Maker = Callable[..., VirtualMachine]


@pytest.fixture
def init(tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a C statement into a program for /init."""

    def make(statement: str) -> Path:
        source = tmp_path / "init.c"
        source.write_text(f"#include <unistd.h>\nint main(void)\n{{\n\t{statement}\n}}\n")
        program = tmp_path / "init"
        subprocess.run(["gcc", "-static", "-o", program, source], check=True)
        return program

    return make


def test_a_boot_deadline_is_kept(new_vm: Maker, gone: Callable[..., bool]) -> None:
    vm = new_vm(boot_seconds=0.3)
    vm.start()
    qemu, folder = vm.pid, vm.folder
    assert qemu
    assert folder
    assert folder.stat().st_mode & 0o777 == 0o700
    began = time.monotonic()
    with pytest.raises(BootFailed, match=r"did not serve within 0\.3 s, twice") as first:
        vm.process()
    assert time.monotonic() - began < 3
    assert gone(qemu)
    assert not folder.exists()
    # it is not tried again: the same failure, at once
    with pytest.raises(BootFailed) as second:
        vm.process()
    assert second.value is first.value
    assert vm.pid == 0
    assert vm.boots == 0


def test_an_init_that_never_answers_is_told_with_the_console(
    new_vm: Maker, init: Callable[[str], Path]
) -> None:
    vm = new_vm(agent=init("for (;;) pause();"), boot_seconds=8)
    with pytest.raises(_BootError, match="did not serve within 8 s"):
        vm._boot()  # a second time, as above, would take as long again
    assert "Run /init as init process" in vm.console()


def test_an_init_that_exits_is_told_as_the_panic_it_makes(
    new_vm: Maker, init: Callable[[str], Path]
) -> None:
    vm = new_vm(agent=init("return 3;"))
    with pytest.raises(
        BootFailed, match="the kernel panicked while it booted: Attempted to kill init"
    ) as caught:
        vm.wait()
    assert "Run /init as init process" in caught.value.console


def test_an_agent_without_its_port_is_told(new_vm: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_iommufd.machine.qemu.PORT_NAME", "another")
    vm = new_vm()
    with pytest.raises(_BootError, match="the agent failed, not the kernel: no virtio port named"):
        vm._boot()


def test_an_init_that_is_no_program_is_told(new_vm: Maker, tmp_path: Path) -> None:
    text = tmp_path / "init"
    text.write_text("not a program")
    with pytest.raises(BootFailed, match="the kernel panicked while it booted: "):
        new_vm(agent=text).wait()


def test_qemu_that_refuses_is_told_in_its_own_words(new_vm: Maker) -> None:
    vm = new_vm(acceleration=Acceleration("nonsense"))
    with pytest.raises(BootFailed, match=r"\(QEMU\) exited with status 1, saying .*nonsense"):
        vm.wait()


def test_a_check_that_fails_ends_the_boot(new_vm: Maker, gone: Callable[..., bool]) -> None:
    vm = new_vm()

    def check(_: object) -> None:
        raise ValueError("another layout than expected")

    vm.on_hello(check)
    vm.start()
    qemu = vm.pid
    with pytest.raises(BootFailed, match="another layout than expected"):
        vm.wait()
    assert gone(qemu)


def test_a_module_of_another_kernel_is_a_complaint(new_vm: Maker, tmp_path: Path) -> None:
    module = tmp_path / "iommufd.ko"
    module.write_bytes(b"not a module")
    assert new_vm(modules=[module]).wait().complaints == (
        "module.00-iommufd.ko: Exec format error",
    )
