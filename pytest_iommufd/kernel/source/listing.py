# SPDX-License-Identifier: GPL-2.0-only
"""Which files of a tree are source, where builds have left other files among them.

git answers that: for a checkout from its index, and for a tree that git does not know by the
.gitignore files, which a kernel's source has for all that its builds make.
"""

from __future__ import annotations

import os
import re
import tempfile
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.source.git import git

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# What the kernel's own Makefile looks for before it refuses an out-of-tree build.
_BUILT = (".config", "include/config", "arch/*/include/generated")
# make splits its words there, and finds the path behind a symbolic link.
_SPLITS = re.compile(r"[\s:]")
# Debian's linux-source ignores all in its top folder, for whoever packages it in git.
_TOP = ("!/[A-Za-z]*/", "!/Kbuild", "!/Kconfig", "!/Makefile", "!/localversion*")


def is_clean(tree: Path) -> bool:
    """Tell whether make builds a tree elsewhere as it is; if not, it takes a copy of its source.

    Args:
        tree: its top folder.

    Returns:
        Whether nothing was built or configured in it, and make can read its path.
    """
    return not _SPLITS.search(os.fspath(tree)) and not any(
        next(tree.glob(mark), None) for mark in _BUILT
    )


def is_checkout(tree: Path) -> bool:
    """Tell whether a tree is the worktree of a git checkout, and not a part of one.

    Args:
        tree: its top folder.

    Returns:
        Whether it is; False where git is not installed.

    Raises:
        Problem: git refuses to read it.
    """
    try:
        asked = git(tree, "rev-parse", "--show-prefix")
    except FileNotFoundError:
        return False
    return asked.returncode == 0 and asked.stdout == b"\n"


def files(tree: Path, where: Iterable[str] = ()) -> list[str]:
    """List the source files of a tree.

    Args:
        tree: its top folder.
        where: names of files and folders in it to look at; by default everywhere.

    Returns:
        Names relative to the tree, sorted. A deleted file of a checkout may be among them.

    Raises:
        OSError: git is not installed.
        Problem: git refuses to read the tree.
    """
    listing = ("ls-files", "-z", "--others")
    if is_checkout(tree):
        return _names(tree, [*listing, "--cached", "--exclude-standard"], where)
    with tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch:
        here = [f"--git-dir={scratch}/empty", f"--work-tree={tree}"]
        git(tree, here[0], "init", "--quiet", "--template=")
        patterns = [f"--exclude={pattern}" for pattern in _TOP]
        words = [*here, *listing, "--exclude-per-directory=.gitignore", *patterns]
        return _names(tree, words, where)


def _names(tree: Path, words: list[str], where: Iterable[str]) -> list[str]:
    asked = git(tree, "--literal-pathspecs", *words, "--", *where)
    if asked.returncode:
        raise Problem(
            f"git cannot list the files of {tree}",
            detail=asked.stderr.decode(errors="replace").strip(),
        )
    return sorted({os.fsdecode(name) for name in asked.stdout.split(b"\0") if name})
