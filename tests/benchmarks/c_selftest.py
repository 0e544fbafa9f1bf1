# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own C selftest, built from a kernel's source and run in a guest."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.machine import ProcessDied

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel
    from pytest_iommufd.machine import Machine, Process

PROGRAMS = ("iommufd", "iommufd_fail_nth")
_AT_FDCWD, _EXECVE, _DUP2 = -100, 59, 33
_PIECE = 1 << 16
_OUTPUT = "/tmp/output"  # noqa: S108 - in the guest
_SECONDS = 300


def build(kernel: Kernel, folder: Path) -> list[Path]:
    """Build it, static; headers of libcap are ours where the machine has none."""
    assert kernel.tree
    headers = folder / "headers"
    headers.mkdir()
    make = ["make", "-s", "-C", kernel.tree, f"O={headers}", "headers"]
    subprocess.run(make, check=True, capture_output=True)
    selftests = kernel.tree / "tools/testing/selftests"
    built = []
    for name in PROGRAMS:
        program = folder / name
        subprocess.run(
            [
                *("gcc", "-static", "-O2", "-w", "-D_GNU_SOURCE=", "-o", program),
                *("-I", Path(__file__).with_name("libcap"), "-isystem", headers / "usr/include"),
                *("-I", selftests, selftests / "iommu" / f"{name}.c"),
            ],
            check=True,
        )
        built.append(program)
    return built


def install(process: Process, program: Path) -> str:
    """Put a program into the guest, and return its path there."""
    path = f"/tmp/{program.name}"  # noqa: S108 - in the guest
    steps = Program()
    steps.write(process.arena, path.encode() + b"\0")
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    opened = steps.syscall("openat", _AT_FDCWD, process.arena, flags, 0o755, must=True)
    file = process.run(steps)[opened.index].ret
    content = program.read_bytes()
    for at in range(0, len(content), _PIECE):
        piece = content[at : at + _PIECE]
        process.write(process.arena, piece)
        assert process.checked("write", file, process.arena, len(piece)) == len(piece)
    process.checked("close", file)
    return path


def run(machine: Machine, path: str) -> tuple[float, str]:
    """Have a process become the program; returns how long it took, seconds, and what it printed."""
    process = machine.process()
    at = process.arena
    steps = Program()
    steps.write(at, path.encode() + b"\0")
    steps.write(at + 512, _OUTPUT.encode() + b"\0")
    steps.write(at + 1024, at.to_bytes(8, "little") + bytes(8))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    output = steps.syscall("openat", _AT_FDCWD, at + 512, flags, 0o644, must=True)
    for standard in (1, 2):
        steps.syscall(_DUP2, output, standard)
    steps.syscall(_EXECVE, at, at + 1024, at + 1032)
    began = time.monotonic()
    try:
        process.run(steps, seconds=_SECONDS)
    except ProcessDied:
        took = time.monotonic() - began
    else:
        raise AssertionError(f"{path} could not be executed")
    reader = machine.process()
    try:
        return took, reader.read_file(_OUTPUT, 1 << 20).decode(errors="replace")
    finally:
        reader.end()
