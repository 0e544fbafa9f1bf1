# SPDX-License-Identifier: GPL-2.0-only
"""One kernel module: what its section .modinfo says."""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import unpack

if TYPE_CHECKING:
    from pathlib import Path

# What ELF calls the machines that guests can be.
_MACHINES = {"x86_64": "EM_X86_64"}


@dataclass(frozen=True)
class Module:
    """A module's file.

    Attributes:
        path: the file, perhaps compressed.
        name: as the kernel has it, with `_` for `-`.
        depends: names of the modules that must be loaded before.
        release: of the kernel that it was built for; empty when it does not say.
    """

    path: Path
    name: str
    depends: tuple[str, ...]
    release: str


def read(path: Path) -> Module:
    """Read a module.

    Args:
        path: its file.

    Returns:
        What it says of itself.

    Raises:
        Problem: it cannot be read or unpacked, is truncated, is for another architecture, or is no
            kernel module.
    """
    # not needed by those who boot a kernel that was built here
    from elftools.common.exceptions import ELFError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    data = unpack.content(path)
    if not data.startswith(b"\x7fELF"):
        raise _no_module(path, "it is no ELF file")
    try:
        elf = ELFFile(io.BytesIO(data))
        section = elf.get_section_by_name(".modinfo")
        info = section.data() if section else b""
    except (ELFError, AssertionError, AttributeError, KeyError, ValueError) as error:
        # pyelftools takes for granted that what a header says is there
        raise Problem(
            f"the kernel module {path} is truncated or damaged: it has {len(data)} bytes",
            expected="the sections that its ELF header counts",
            mend="copy or build it again",
        ) from error
    machine = _MACHINES.get(platform.machine(), "")
    if machine not in ("", elf.header["e_machine"]):
        raise Problem(
            f"the kernel module {path} is for another architecture: {elf.header['e_machine']}",
            expected=f"{machine}, as the guest is",
            mend="give the modules of the image's own build",
        )
    if not info:
        raise _no_module(path, "it has no section .modinfo")
    return _described(path, info)


def name_of(path: Path) -> str:
    """Return the name of the module that a file holds, by the file's name."""
    return path.name.partition(".ko")[0].replace("-", "_")


def _described(path: Path, info: bytes) -> Module:
    lines = (line.decode(errors="replace").partition("=") for line in info.split(b"\0"))
    said = {key: value for key, _, value in lines}
    return Module(
        path=path,
        name=said.get("name", name_of(path)).replace("-", "_"),
        depends=tuple(
            name.replace("-", "_") for name in said.get("depends", "").split(",") if name
        ),
        release=said.get("vermagic", "").partition(" ")[0],
    )


def _no_module(path: Path, why: str) -> Problem:
    return Problem(
        f"not a kernel module: {path}: {why}",
        expected="a .ko file, which .xz, .zst or .gz may follow",
    )
