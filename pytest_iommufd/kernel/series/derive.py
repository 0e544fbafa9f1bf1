# SPDX-License-Identifier: GPL-2.0-only
"""Source and build of a patched kernel, begun from those of the unpatched one."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.build.folder import relocate, seen_by_make
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import Estimates, partial_of
from pytest_iommufd.kernel.series import patching

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.store import Cache
    from pytest_iommufd.kernel.series.patchseries import Series

SOURCE = "source"
"""The patched source, in the folder of its kernel."""


@dataclass(frozen=True)
class Base:
    """An unpatched kernel in the cache.

    Attributes:
        entry: its folder.
        name: its name in test ids.
        tree: its source tree.
        source: where it came from, for people.
        inputs: all that went in.
        shared: whether the tree is the cache's own: no one edits it.
    """

    entry: Path
    name: str
    tree: Path
    source: str
    inputs: dict[str, str]
    shared: bool

    @property
    def copy_size(self) -> int:
        """Bytes that a copy of its source takes, roughly."""
        return 0 if self.shared else patching.TREE_SIZE


def derive(
    base: Base, series: tuple[Series, ...], folder: Path, cache: Cache, progress: Progress
) -> Path:
    """Copy source and build of a kernel and apply series: make then compiles what they touch.

    Args:
        base: the kernel, never written to.
        series: what to apply, in order.
        folder: receives `source` and `build`.
        cache: the cache of both.
        progress: shows what goes on.

    Returns:
        The patched source tree.

    Raises:
        Problem: a patch does not apply, or the kernel was removed meanwhile.
        OSError: the folder cannot be written.
    """
    tree, built = folder / SOURCE, folder / "build"
    with contextlib.ExitStack() as held:
        # Others may remove them to make room, but not while they are copied.
        for path in (base.entry, base.tree):
            if path.is_relative_to(cache.root):
                held.enter_context(cache.lock(path, progress))
        if entries.read(base.entry) is None or not base.tree.is_dir():
            raise Problem(f"kernel {base.name} was removed from the cache", mend="run again")
        kind, guess = ("link source", 4) if base.shared else ("copy source", 40)
        what = f"copying source and build of {base.name}"
        with Estimates(cache.root).timed(kind, guess, what, progress):
            patching.copy(base.tree, tree, series, progress, share=base.shared)
            patching.walk(base.entry / "build", built, shutil.copy2)
    source = base.source
    for one in series:
        progress.step(f"applying {one}")
        patching.apply(one, tree, source, progress)
        source += f" + {one}"
    moved = {
        partial_of(base.entry) / "build": built,
        seen_by_make(base.tree, base.entry): tree,
    }
    relocate(built, moved)
    return tree
