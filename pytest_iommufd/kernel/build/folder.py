# SPDX-License-Identifier: GPL-2.0-only
"""A build directory: what was made in it, and a copy of it to go on with."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.cache.store import partial_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Built:
    """What a build made, in its build directory.

    Attributes:
        release: `uname -r` of the kernel.
        image: its bzImage.
        modules: iommufd, vfio-pci and what they need, in the order to load them.
        configuration: what is to be said of the user's configuration, empty without.
    """

    release: str
    image: Path
    modules: tuple[Path, ...]
    configuration: str = ""


def keep(built: Built, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Copy image and modules out of the build directory.

    Args:
        built: what was built.
        folder: where to.

    Returns:
        Paths of the image and of the modules, relative to the folder.

    Raises:
        OSError: they cannot be copied.
    """
    (folder / "modules").mkdir()
    shutil.copy2(built.image, folder / "bzImage")
    for module in built.modules:
        shutil.copy2(module, folder / "modules" / module.name)
    return "bzImage", tuple(f"modules/{module.name}" for module in built.modules)


def seen_by_make(tree: Path, entry: Path) -> Path:
    """Tell which path a kernel's source tree had when the kernel was built.

    Args:
        tree: the source tree.
        entry: the kernel's folder, which gets its name after the build; the tree may be in it.

    Returns:
        That path.
    """
    return partial_of(entry) / tree.relative_to(entry) if tree.is_relative_to(entry) else tree


def relocate(folder: Path, moved: Mapping[Path, Path]) -> None:
    """Make a copy of a build directory good for building in.

    make compiles anew what is not noted with the very words that it would use now, and these have
    absolute paths: all of the source tree, and in tools/ of the build directory too.

    Args:
        folder: the copy.
        moved: folders by where they were when the build ran.

    Raises:
        OSError: the copy cannot be read or written.
    """
    # make itself sees no symbolic links in these paths.
    names = {os.path.realpath(old): os.path.realpath(new) for old, new in moved.items()}
    words = {os.fsencode(old): os.fsencode(new) for old, new in names.items() if old != new}
    if not words:
        return
    # a path, and not the beginning of a longer name
    pattern = re.compile(rb"(" + b"|".join(map(re.escape, words)) + rb")(?![\w.+~-])")
    for path in (*folder.rglob("*.cmd"), *folder.rglob("*.d")):
        if not path.is_file():
            continue
        before = path.read_bytes()
        after = pattern.sub(lambda match: words[match[1]], before)
        if after != before:
            times = path.stat()
            path.write_bytes(after)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
