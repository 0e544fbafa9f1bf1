# SPDX-License-Identifier: GPL-2.0-only
"""The programs and libraries that must be on the machine, and how to get them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.host.run import ask, run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_iommufd.host.progress import Progress

NO_INSTALL = "PYTEST_IOMMUFD_NO_INSTALL"
_DEBIAN = Path("/etc/debian_version")
QEMU = "qemu-system-x86_64"

# Debian package of each program that is not in a package of its own name.
_PACKAGES = {
    "bsdtar": "libarchive-tools",
    "dpkg-deb": "dpkg",
    "ld": "binutils",
    "libelf": "libelf-dev",
    QEMU: "qemu-system-x86",
    "static libc": "libc6-dev",
    "xz": "xz-utils",
}
# Where a program is that has another name, or is not on PATH: what Red Hat makes of QEMU.
_ELSEWHERE = {QEMU: ("qemu-kvm", "/usr/libexec/qemu-kvm")}
# How tools are tried, if not only looked for: program, arguments, what it reads, what it says.
# What is no program is compiled with; programs of BusyBox and of BSD lack options used here.
_TRIED = {
    "libelf": ("gcc", ("-x", "c", "-E", "-"), "#include <libelf.h>\n#include <gelf.h>\n", ""),
    "static libc": (
        "gcc",
        ("-x", "c", "-static", "-o", os.devnull, "-"),
        "#include <stdio.h>\nint main(void){return 0;}",
        "",
    ),
    "make": ("make", ("--version",), "", "GNU Make"),
    "patch": ("patch", ("--version",), "", "GNU patch"),
    "tar": ("tar", ("--version",), "", "GNU tar"),
    QEMU: (QEMU, ("--version",), "", "QEMU"),
}

KERNEL_BUILD = ("gcc", "ld", "make", "flex", "bison", "bc", "static libc", "libelf")
"""What building a kernel takes: objtool needs libelf, the agent a static libc."""
UNPACK = ("dpkg-deb", "tar", "xz")
"""What unpacking a source package takes."""
PATCH = ("patch",)
"""What applying a patch series takes."""


def find(name: str) -> str | None:
    """Find a program, under whichever name it goes here.

    Args:
        name: the program, as `missing` takes it.

    Returns:
        What to start, None when it is not there.
    """
    return next(filter(None, map(shutil.which, (name, *_ELSEWHERE.get(name, ())))), None)


def missing(*names: str) -> list[str]:
    """Tell which tools are not there, or are of no use.

    Args:
        names: programs, or `libelf` or `static libc`, which a small compilation looks for.

    Returns:
        The missing ones, in the order given.
    """
    return [name for name in names if trouble(name)]


def trouble(name: str) -> str:
    """Try a tool.

    Args:
        name: as for `missing`.

    Returns:
        Why it cannot be used, empty when it can.
    """
    program, arguments, source, says = _TRIED.get(name, (name, (), "", ""))
    path = find(program)
    if not path:
        return f"no {name}"
    if not arguments:
        return ""
    asked = ask([path, *arguments], text=source)
    said = (asked.stdout + asked.stderr).decode(errors="replace").strip()
    if asked.returncode:
        why = said.splitlines()[-1:] or [f"exit status {asked.returncode}"]
        return f"no {name}" if source else f"{path} does not run: {why[0]}"
    return "" if says in said else f"{path} is not {says}"


def packages(names: Iterable[str]) -> list[str]:
    """Tell which Debian packages hold tools.

    Args:
        names: as for `missing`.

    Returns:
        Package names, each once. A compiler comes with its libc.
    """
    found = {_PACKAGES.get(name, name): None for name in names}
    if "gcc" in found:
        found["libc6-dev"] = None
    return list(found)


def ensure(*names: str, progress: Progress | None = None) -> None:
    """Make tools be there: install what is missing, as root on Debian.

    Args:
        names: as for `missing`.
        progress: told what is being installed.

    Raises:
        Problem: tools are missing and cannot or must not be installed here; it says the command.
    """
    absent = missing(*names)
    if not absent:
        return
    wanted = packages(absent)
    install = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
    debian = shutil.which("apt-get") is not None and _DEBIAN.exists()
    what = f"missing on this machine: {', '.join(absent)}"
    broken = "\n".join(filter(None, (trouble(name) for name in absent if find(name))))
    if not debian:
        raise Problem(what, mend=f"install what Debian calls {' '.join(wanted)}", detail=broken)
    if os.geteuid() != 0 or os.environ.get(NO_INSTALL):
        sudo = "" if os.geteuid() == 0 else "sudo "
        # a fresh machine has no package lists, and then apt-get knows no package
        update = "" if all(map(_offered, wanted)) else f"{sudo}apt-get update && "
        raise Problem(what, mend=f"{update}{sudo}{' '.join(install)}", detail=broken)
    _install(install, wanted, what, progress or Silent())
    if still := missing(*absent):
        raise Problem(
            f"still missing after their packages were installed: {', '.join(still)}",
            detail="\n".join(map(trouble, still)),
        )


def _install(command: list[str], wanted: list[str], what: str, progress: Progress) -> None:
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    if not all(_offered(package) for package in wanted):
        progress.step("reading package lists (apt-get update)")
        # Its failure is not the end: the install says what could not be had.
        run(["apt-get", "update"], env=env, watch=progress.update)
    progress.step(f"installing {' '.join(wanted)}")
    status, lines = run(command, env=env, watch=progress.update)
    if status:
        raise Problem(what, mend=" ".join(command), detail="\n".join(lines[-25:]))


def _offered(package: str) -> bool:
    _, lines = run(["apt-cache", "policy", package])
    return any("Candidate:" in line and "(none)" not in line for line in lines)


def compiler() -> str | None:
    """Identify the compiler that would build.

    Returns:
        Its name and version, None when there is none.
    """
    try:
        asked = ask(["gcc", "--version"])
    except OSError:
        return None
    return asked.stdout.decode().partition("\n")[0] if asked.returncode == 0 else None
