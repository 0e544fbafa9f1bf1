# SPDX-License-Identifier: GPL-2.0-only
"""Compiles the agent against a kernel's ABI, once for each ABI and compiler."""

from __future__ import annotations

import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import ask

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = ("agent.c", "boot.c", "io.c", "program.c", "worker.c")
HEADERS = ("agent.h",)
FLAGS = ("-std=gnu11", "-O2", "-pthread")
# what -static needs to start without any file of the machine: the guest has none
LINK = ("-static", "-s")

_CROSS = "-linux-gnu-gcc"
# The architectures whose ioctl numbers and byte order are those that the headers are read for here.
_MACHINES = ("x86_64", "aarch64", "riscv64", "loongarch64")

# what agent.h declares, beside the table in the layout's text
_LAYOUT_TAIL = """
extern const struct layout_entry *const agent_layout;
extern const size_t agent_layout_entries;
const struct layout_entry *const agent_layout = layout;
const size_t agent_layout_entries = sizeof(layout) / sizeof(*layout);
"""


def compiled(
    layout: str,
    cache: Path,
    *,
    compiler: str = "gcc",
    flags: Sequence[str] = (*FLAGS, *LINK),
) -> Path:
    """Return the agent's program, compiled if need be.

    Args:
        layout: C text of the kernel's structs and their table, of Uapi.layout_source().
        cache: the folder that keeps it.
        compiler: the C compiler's command.
        flags: its arguments before the sources.

    Raises:
        Problem: no compiler, no static C library, or it does not compile.
    """
    key = hashlib.sha256()
    for part in (_source_text(), layout, compiler, *flags):
        key.update(part.encode() + b"\0")
    program = cache / "agents" / key.hexdigest()[:16]
    if program.exists():
        return program
    try:
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as scratch:
            built = _compile(Path(scratch), layout, [compiler, *flags])
            built.replace(program)
    except OSError as error:
        raise Problem(
            f"cannot keep the agent in {program.parent}: {error.strerror}",
            mend="make that folder writable, or set PYTEST_IOMMUFD_CACHE to one that is",
        ) from error
    return program


def compiler_for(machine: str) -> str:
    """Name the compiler of an architecture's programs.

    Args:
        machine: the architecture, as `uname -m` prints it.

    Raises:
        Problem: the agent cannot run on that architecture.
    """
    if machine not in _MACHINES:
        raise Problem(
            f"the agent cannot run on an architecture called {machine}",
            expected=f"one of {', '.join(_MACHINES)}",
        )
    return "gcc" if machine == os.uname().machine else f"{machine}{_CROSS}"


def build_id(program: Path) -> str:
    """Eight hexadecimal digits that tell one agent's program from another."""
    return program.name[:8]


def _install(compiler: str) -> str:
    """Return the command that installs a compiler with a static C library."""
    if not compiler.endswith(_CROSS):
        return "apt-get install -y gcc libc6-dev"
    machine = compiler.removesuffix(_CROSS)
    return f"apt-get install -y gcc-{machine.replace('_', '-')}-linux-gnu"


def _source_text() -> str:
    return "".join(_resource(name) for name in (*HEADERS, *SOURCES))


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _compile(scratch: Path, layout: str, command: list[str]) -> Path:
    for name in (*HEADERS, *SOURCES):
        (scratch / name).write_text(_resource(name))
    (scratch / "layout.c").write_text(f"{layout}{_LAYOUT_TAIL}")
    out = scratch / "agent"
    command = [*command, "-o", str(out), *(str(scratch / name) for name in SOURCES)]
    try:
        done = ask([*command, str(scratch / "layout.c")])
    except FileNotFoundError as error:
        raise Problem(
            f"no C compiler: {command[0]} is not on the PATH",
            expected="the agent is compiled on this machine",
            mend=_install(command[0]),
        ) from error
    if done.returncode:
        raise Problem(
            "the agent does not compile",
            expected="a C compiler with a static C library and threads (libc6-dev)",
            mend=_install(command[0]),
            detail="\n".join(done.stderr.decode(errors="replace").splitlines()[-20:]),
        )
    return out
