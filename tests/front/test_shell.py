# SPDX-License-Identifier: GPL-2.0-only
"""The prompt with a kernel under test."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.commands import main as cli

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel

SHELL = (sys.executable, "-m", "pytest_iommufd.commands.main", "shell")
_SECONDS = 90


@pytest.fixture
def spec(kernel: Kernel) -> str:
    """A kernel that a shell may boot of its own."""
    if kernel.running:
        pytest.skip("boots a guest")
    return kernel.spec


def _gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or ") Z " in status.read_text()


def test_code_has_the_names(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    text = """
print(process.pid, machine.boots, uapi.IOMMU_HWPT_ALLOC_NEST_PARENT, EINVAL)
with raises_errno(EINVAL):
    iommufd.hwpt_alloc(mock_device, 0x7fffffff)
print(ioas.map(buffer) > 0, isinstance(mock_device, IoctlError))
first = process
fresh()
print(first is process)
"""
    assert cli.main(["shell", "--kernel", spec, "-c", text]) == 0
    numbers, *rest = capfd.readouterr().out.splitlines()
    assert numbers.endswith(" 1 1 22")
    assert rest == ["True False", "False"]


def test_refused_call_is_one_line(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = "iommufd.hwpt_alloc(mock_device, 0x7fffffff)"
    assert cli.main(["shell", "--kernel", spec, "-c", code]) == 1
    err = capfd.readouterr().err
    assert "IoctlError: IOMMU_HWPT_ALLOC: EINVAL" in err
    assert "Traceback" not in err


def test_error_in_the_code(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shell", "--kernel", spec, "-c", "1 / 0"]) == 1
    err = capfd.readouterr().err
    assert "ZeroDivisionError" in err
    assert "shell.py" not in err


def test_code_that_is_no_python(spec: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shell", "--kernel", spec, "-c", "1 +"]) == 1
    assert "SyntaxError" in capfd.readouterr().err


def test_no_such_kernel(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shell", "--kernel", "nonsense"]) == 2
    assert "not a kernel spec" in capfd.readouterr().err


def test_prompt_ends_with_its_input_and_goes_on_after_a_panic(spec: str) -> None:
    lines = [
        "print('guest', machine.pid)",
        "process.write_file('/proc/sysrq-trigger', b'c')",
        "fresh()",
        "print('boots', machine.boots)",
        "print('guest', machine.pid)",
    ]
    done = subprocess.run(
        [*SHELL, "--kernel", spec],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mock_device" in done.stderr  # the banner
    assert "KernelPanicked" in done.stderr
    assert "boots 2" in done.stdout
    words = done.stdout.split()
    guests = [int(words[at + 1]) for at, word in enumerate(words) if word == "guest"]
    assert len(guests) == 2
    assert all(_gone(pid) for pid in guests)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_guest_ends_with_the_shell(spec: str, number: signal.Signals) -> None:
    code = "import time; print(machine.pid, flush=True); time.sleep(999)"
    with subprocess.Popen([*SHELL, "--kernel", spec, "-c", code], stdout=subprocess.PIPE) as shell:
        assert shell.stdout
        try:
            guest = int(shell.stdout.readline())
            assert not _gone(guest)
            shell.send_signal(number)
            shell.wait(_SECONDS)
        finally:
            shell.kill()
    if number == signal.SIGINT:
        assert shell.returncode == 130
    deadline = time.monotonic() + 5
    while not _gone(guest) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _gone(guest)
