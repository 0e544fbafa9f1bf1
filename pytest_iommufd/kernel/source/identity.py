# SPDX-License-Identifier: GPL-2.0-only
"""Which source a tree holds: two trees with one identity build the same kernel."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.source import listing
from pytest_iommufd.kernel.source.git import git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def digest(*parts: bytes | str) -> str:
    """Hash parts so that no two lists of parts collide.

    Args:
        parts: what to hash.

    Returns:
        A hexadecimal SHA-256.
    """
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def of_tree(tree: Path) -> str:
    """Identify the content of a tree, uncommitted edits included; the tree is only read.

    Args:
        tree: its top folder.

    Returns:
        A hash: of commit and edits when git knows the tree, else of names, sizes and times of its
        source files.

    Raises:
        OSError: the tree cannot be read.
        Problem: git refuses to read it.
    """
    if listing.is_checkout(tree):
        head = _git(tree, "rev-parse", "HEAD")
        edits = _git(tree, "diff", "--binary", "HEAD")
        new = _git(tree, "ls-files", "--others", "--exclude-standard", "-z")
        if head is not None and edits is not None and new is not None:
            paths = [tree / os.fsdecode(name) for name in new.split(b"\0") if name]
            return digest("git", head, edits, *(part for path in paths for part in _file(path)))
    return digest("stat", *_source_stats(tree))


def describe(tree: Path) -> str:
    """Name a tree for people.

    Args:
        tree: its top folder.

    Returns:
        `tree /x/y (v6.12-3-g0123456)`, without the parentheses when git does not know it.
    """
    said = (_git(tree, "describe", "--tags", "--always") or b"").decode().strip()
    if not said:
        return f"tree {tree}"
    # describe --dirty would write the index anew
    edited = _git(tree, "diff", "--quiet", "HEAD") is None
    return f"tree {tree} ({said}{'-dirty' * edited})"


def _git(tree: Path, *argv: str) -> bytes | None:
    """What git says, None when it does not know the tree or is not there."""
    try:
        asked = git(tree, *argv)
    except OSError:
        return None
    return asked.stdout if asked.returncode == 0 else None


def _file(path: Path) -> tuple[str, bytes]:
    if path.is_symlink() or not path.is_file():
        return str(path), b""
    return str(path), path.read_bytes()


def _source_stats(tree: Path) -> Iterator[str]:
    if not listing.is_clean(tree):
        with contextlib.suppress(FileNotFoundError):  # without git there is no copy of this tree
            for name in listing.files(tree):
                if not (tree / name).is_dir():
                    yield _stat(name, os.lstat(tree / name))
            return
    yield from _stats(os.fspath(tree), "")


def _stat(name: str, stat: os.stat_result) -> str:
    return f"{name} {stat.st_size} {stat.st_mtime_ns}"


def _stats(top: str, below: str) -> Iterator[str]:
    """Name, size and time of every file, in an order that does not change."""
    with os.scandir(os.path.join(top, below)) as scan:  # noqa: PTH118 - 90 000 files: be quick
        # what git keeps there changes without the source
        found = (entry for entry in scan if below or entry.name != ".git")
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = os.path.join(below, entry.name)  # noqa: PTH118 - likewise
        if entry.is_dir(follow_symlinks=False):
            yield from _stats(top, path)
        else:
            yield _stat(path, entry.stat(follow_symlinks=False))
