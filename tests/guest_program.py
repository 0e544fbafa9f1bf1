# SPDX-License-Identifier: GPL-2.0-only
"""Puts a program of this machine into a guest, and runs it there."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.agent.protocol import Program
from pytest_iommufd.kernel import resolve
from pytest_iommufd.machine import ProcessDied

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.machine import Machine

STRICT = ("-Wall", "-Wextra", "-Werror")
_AT_FDCWD, _EXECVE, _DUP2 = -100, 59, 33
_PIECE = 1 << 16
_PATH, _OUTPUT = "/tmp/program", "/tmp/output"  # noqa: S108 - in the guest
_SECONDS = 60


@dataclass(frozen=True)
class Ran:
    """What became of a program: its wait status, what it printed, and seconds it took."""

    status: int
    output: str
    seconds: float

    @property
    def exit(self) -> int:
        return os.waitstatus_to_exitcode(self.status)


def release_of(spec: str) -> tuple[int, ...]:
    """The numbers of a kernel's release: Debian's releases have different ones under one X.Y."""
    return tuple(map(int, re.findall(r"\d+", resolve(spec).release)))


def compiled(source: Path, *flags: str) -> Path:
    program = source.with_suffix(".out")
    command = ["gcc", "-static", "-s", *(flags or STRICT), "-o", program, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{source.name}\n{done.stderr}"
    return program


def run(machine: Machine, program: Path, *args: str, seconds: float = _SECONDS) -> Ran:
    """Have a process become the program."""
    process = machine.process()
    steps, at = Program(), process.arena
    steps.write(at, _PATH.encode() + b"\0")
    steps.write(at + 512, _OUTPUT.encode() + b"\0")
    create = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    file = steps.syscall("openat", _AT_FDCWD, at, create, 0o755, must=True)
    content = program.read_bytes()
    for start in range(0, len(content), _PIECE):
        piece = content[start : start + _PIECE]
        steps.write(at + 4096, piece)
        steps.syscall("write", file, at + 4096, len(piece), must=True)
    steps.syscall("close", file)
    assert not any(result.errno for result in process.run(steps)), "the guest has no room for it"

    words, addresses, place = [_PATH, *args], b"", at + 1024
    steps = Program()
    for word in words:
        steps.write(place, word.encode() + b"\0")
        addresses += place.to_bytes(8, "little")
        place += len(word) + 1
    vector = place + -place % 8
    steps.write(vector, addresses + bytes(8))
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    output = steps.syscall("openat", _AT_FDCWD, at + 512, flags, 0o644, must=True)
    for standard in (1, 2):
        steps.syscall(_DUP2, output, standard)
    steps.syscall(_EXECVE, at, vector, vector + len(addresses))
    status, began = None, time.monotonic()
    try:
        process.run(steps, seconds=seconds)
    except ProcessDied as ended:
        status = ended.status
    took = time.monotonic() - began
    assert status is not None, "it could not be executed"
    reader = machine.process()
    try:
        printed = reader.read_file(_OUTPUT, 1 << 20).decode(errors="replace")
        return Ran(status, printed, took)
    finally:
        reader.end()
