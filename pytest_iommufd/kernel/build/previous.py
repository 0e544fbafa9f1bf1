# SPDX-License-Identifier: GPL-2.0-only
"""An earlier kernel with whose build another begins: make then compiles only what is newer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.build.folder import relocate, seen_by_make
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import partial_of

if TYPE_CHECKING:
    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.store import Cache


def find(cache: Cache, name: str, inputs: dict[str, str], but: str = "") -> Path | None:
    """Find the last kernel that nearly the same went into.

    Args:
        cache: where to look.
        name: its name; empty for any.
        inputs: all that goes into the new one.
        but: the input that may be another.

    Returns:
        Its folder, None when there is none.
    """
    same = {key: value for key, value in inputs.items() if key != but}
    for entry in entries.find(cache, name, same):
        # one with series has an input more
        if (record := entries.read(entry)) and record.inputs.keys() == inputs.keys():
            return entry
    return None


def take(entry: Path, tree: Path, folder: Path, cache: Cache, progress: Progress) -> bool:
    """Begin with the build of an earlier kernel, if it is still there.

    Args:
        entry: that kernel's folder. What differs in its source must be newer than its build.
        tree: the source tree to build.
        folder: the build directory; it must not exist.
        cache: the cache.
        progress: shows it.

    Returns:
        Whether there is one now.

    Raises:
        OSError: it cannot be copied.
    """
    # Others may remove it to make room, but not while it is copied.
    with cache.lock(entry, progress):
        record = entries.read(entry)
        if record is None:
            return False
        progress.step(f"copying the last build of {record.name}")
        shutil.copytree(entry / "build", folder, symlinks=True)
    source = seen_by_make(Path(record.tree), entry)
    relocate(folder, {partial_of(entry) / "build": folder, source: tree})
    return True
