# SPDX-License-Identifier: GPL-2.0-only
"""The compiler and the flags that the environment names, as for the kernel's own make."""

from __future__ import annotations

import os
import shlex

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import ask

VARIABLES = ("CC", "LLVM", "LLVM_IAS", "LD", "HOSTCC", "KCFLAGS", "KCPPFLAGS", "KAFLAGS")
"""What is taken from the environment (Documentation/kbuild/kbuild.rst and llvm.rst)."""


def words() -> list[str]:
    """Return what the environment sets, as words for make.

    The kernel's Makefile sets CC and others itself: only its command line takes precedence.

    Returns:
        Such as `LLVM=1`, in a fixed order; a variable that is empty is left out.
    """
    return [f"{name}={value}" for name in VARIABLES if (value := os.environ.get(name))]


def compiler() -> str | None:
    """Identify the compiler that would build.

    Returns:
        Its name and version; None where none is named and there is no gcc.

    Raises:
        Problem: the compiler that the environment names does not run.
    """
    named = next((word for word in words() if word.startswith(("CC=", "LLVM="))), "")
    try:
        asked = ask([*_command(), "--version"])
        failed = f"exit status {asked.returncode}" if asked.returncode else ""
    except OSError as error:
        failed = str(error)
    if not failed:
        return asked.stdout.decode(errors="replace").partition("\n")[0]
    if named:
        raise Problem(
            f"the compiler that {named} in the environment names does not run: {failed}",
            expected="a compiler that answers to --version",
            mend=f"install it, or unset {named.partition('=')[0]}",
        )
    return None


def _command() -> list[str]:
    if command := shlex.split(os.environ.get("CC", "")):
        return command
    match os.environ.get("LLVM", ""):
        case "":
            return ["gcc"]
        case folder if folder.endswith("/"):
            return [f"{folder}clang"]
        case suffix if suffix.startswith("-"):
            return [f"clang{suffix}"]
        case _:
            return ["clang"]
