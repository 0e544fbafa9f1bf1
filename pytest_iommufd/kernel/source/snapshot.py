# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a tree's source, as the tree was at one moment, for a build that never changes it."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.source import listing

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.host.progress import Progress

# files
_OFTEN = 1000


class ChangedError(Exception):
    """A file of the tree was saved while the tree was copied."""


def take(tree: Path, copy: Path, earlier: Path | None, progress: Progress) -> None:
    """Copy the source files of a tree.

    What an earlier copy has too becomes a link to its file there. All else gets the time of the
    copying if there is an earlier one, so that make compiles it however old it is, and the time
    that it has in the tree if there is none.

    Args:
        tree: the tree, only read.
        copy: the folder to make.
        earlier: an earlier copy, which no one writes to.
        progress: told that it goes on.

    Raises:
        ChangedError: a file was saved meanwhile; the copy is of no use.
        Problem: git cannot read the tree.
        OSError: git is not installed, a file cannot be read, or the copy cannot be written.
    """
    copy.mkdir()
    seen: dict[str, os.stat_result] = {}
    names = listing.files(tree)
    for count, name in enumerate(names):
        if count % _OFTEN == 0:
            progress.update(f"{count} files", count / len(names))
        if found := _stat(tree / name):
            seen[name] = found
            _put(tree / name, found, copy / name, earlier / name if earlier else None)
    if {name: _state(found) for name in names if (found := _stat(tree / name))} != {
        name: _state(found) for name, found in seen.items()
    }:
        raise ChangedError


def _stat(path: Path) -> os.stat_result | None:
    """Of a file, or of a link itself; None for what is not there, and for a submodule's folder."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else None


def _state(found: os.stat_result) -> tuple[int, ...]:
    """What differs whenever a file was written, replaced or renamed."""
    return found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _put(source: Path, here: os.stat_result, target: Path, earlier: Path | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if stat.S_ISLNK(here.st_mode):
            target.symlink_to(source.readlink())
        elif earlier and _same(source, here, earlier):
            target.hardlink_to(earlier)
        elif earlier:
            shutil.copyfile(source, target)
            shutil.copymode(source, target)
        else:
            shutil.copy2(source, target)
    except FileNotFoundError as error:
        raise ChangedError from error


def _same(source: Path, here: os.stat_result, earlier: Path) -> bool:
    there = _stat(earlier)
    if there is None or (here.st_mode, here.st_size) != (there.st_mode, there.st_size):
        return False
    return here.st_mtime_ns == there.st_mtime_ns or source.read_bytes() == earlier.read_bytes()
