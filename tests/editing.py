# SPDX-License-Identifier: GPL-2.0-only
"""Makes a source tree that tests may edit, with its kernel built."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from watching import EditedTree

from pytest_iommufd.kernel import resolve, resolver
from pytest_iommufd.kernel.build.folder import relocate
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import Cache, default_root, partial_of
from pytest_iommufd.kernel.spec import parse

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel

EDITED = "7.3"
# What a build reads, beside the folders that it made something of and what all of kconfig reads.
_READ = re.compile(
    r"(?:include/(?!dt-bindings)[\w-]+|lib|scripts|arch/(?:x86|um)|tools/(?!perf|testing)\w+)(?:/|$)"
)


def make(folder: Path) -> EditedTree:
    """Make the source of Linux 7.3 a tree whose kernel is built, in a cache of its own."""
    kernel = resolve(EDITED)
    tree, root = folder / "linux", folder / "cache"
    _link(kernel, tree)
    _adopt(kernel, tree, Cache.at(root))
    for known in ("agents", "kvm.json"):
        if (default_root() / known).is_dir():
            shutil.copytree(default_root() / known, root / known)
        elif (default_root() / known).exists():
            shutil.copy(default_root() / known, root / known)
    return EditedTree(tree, root)


def _link(kernel: Kernel, tree: Path) -> None:
    """Make a tree of links to the files of a kernel's source that go into it."""
    assert kernel.build
    assert kernel.tree
    noted = _noted(kernel.tree, kernel.build)
    for top, folders, files in os.walk(kernel.tree):
        name = os.path.relpath(top, kernel.tree)
        whole = _READ.match(name) or (kernel.build / name).is_dir()
        links = [one for one in folders if (Path(top) / one).is_symlink()]
        for file in (*files, *links):
            if whole or file.startswith("Kconfig") or f"{name}/{file}" in noted:
                (tree / name).mkdir(parents=True, exist_ok=True)
                _put(Path(top) / file, tree / name / file)


def _noted(tree: Path, build: Path) -> set[str]:
    """Return the files that kbuild has noted as included: what misses one is compiled anew."""
    path = re.compile(re.escape(f"{tree}/") + r"([^\s\\)]+)")
    notes = (note.read_text("utf-8") for note in build.rglob(".*.cmd"))
    return {os.path.normpath(name) for note in notes for name in path.findall(note)}


def _put(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # on another file system
        shutil.copy2(source, target, follow_symlinks=False)


def _adopt(kernel: Kernel, tree: Path, cache: Cache) -> None:
    """Have a tree's kernel in a cache that is one which was built of the same source."""
    assert kernel.build
    assert kernel.tree
    old = kernel.build.parent
    record = entries.read(old)
    assert record
    spec = parse(str(tree))
    inputs = resolver._inputs(spec)
    entry = entries.path_of(cache, spec.name, inputs)
    shutil.copytree(old, entry, symlinks=True)
    # paths in a build are those of where it was made
    moved = {partial_of(old) / "build": partial_of(entry) / "build", kernel.tree: tree}
    relocate(entry / "build", moved)
    dataclasses.replace(record, name=spec.name, tree=str(tree), inputs=inputs).write(entry)
