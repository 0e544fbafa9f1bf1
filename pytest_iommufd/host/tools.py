# SPDX-License-Identifier: GPL-2.0-only
"""The programs and libraries that must be on the machine, and how to get them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.host.run import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_iommufd.host.progress import Progress

NO_INSTALL = "PYTEST_IOMMUFD_NO_INSTALL"
_DEBIAN = Path("/etc/debian_version")

# Debian package of each program that is not in a package of its own name.
_PACKAGES = {
    "dpkg-deb": "dpkg",
    "ld": "binutils",
    "libelf": "libelf-dev",
    "qemu-system-x86_64": "qemu-system-x86",
    "static libc": "libc6-dev",
    "xz": "xz-utils",
}
# What is no program is looked for by compiling this: (flags, source).
_COMPILED = {
    "libelf": (("-E",), "#include <libelf.h>\n#include <gelf.h>\n"),
    "static libc": (("-static", "-o", os.devnull), "#include <stdio.h>\nint main(void){return 0;}"),
}

KERNEL_BUILD = ("gcc", "ld", "make", "flex", "bison", "bc", "static libc", "libelf")
"""What building a kernel takes: objtool needs libelf, the agent a static libc."""
UNPACK = ("dpkg-deb", "tar", "xz")
"""What unpacking a source package takes."""
PATCH = ("patch",)
"""What applying a patch series takes."""


def missing(*names: str) -> list[str]:
    """Tell which tools are not there.

    Args:
        names: programs, or `libelf` or `static libc`, which a small compilation looks for.

    Returns:
        The missing ones, in the order given.
    """
    return [name for name in names if not _present(name)]


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
    if not debian:
        raise Problem(what, mend=f"install what Debian calls {' '.join(wanted)}")
    if os.geteuid() != 0 or os.environ.get(NO_INSTALL):
        sudo = "" if os.geteuid() == 0 else "sudo "
        # a fresh machine has no package lists, and then apt-get knows no package
        update = "" if all(map(_offered, wanted)) else f"{sudo}apt-get update && "
        raise Problem(what, mend=f"{update}{sudo}{' '.join(install)}")
    _install(install, wanted, what, progress or Silent())
    if still := missing(*absent):
        raise Problem(f"still missing after their packages were installed: {', '.join(still)}")


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


def _present(name: str) -> bool:
    if name not in _COMPILED:
        return shutil.which(name) is not None
    if not shutil.which("gcc"):
        return False
    flags, source = _COMPILED[name]
    compiled = subprocess.run(
        ["gcc", "-x", "c", *flags, "-"],
        input=source.encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return compiled.returncode == 0


def compiler() -> str | None:
    """Identify the compiler that would build.

    Returns:
        Its name and version, None when there is none.
    """
    try:
        asked = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return asked.stdout.partition("\n")[0] if asked.returncode == 0 else None
