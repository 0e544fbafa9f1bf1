# SPDX-License-Identifier: GPL-2.0-only
"""Commits of a git checkout as source trees in the cache.

git writes the files with an index of our own: neither the checkout's worktree nor its index is
touched. A tree is never written to again, since others are links to its files.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import run
from pytest_iommufd.kernel.cache import entries
from pytest_iommufd.kernel.cache.store import Estimates
from pytest_iommufd.kernel.series import patching
from pytest_iommufd.kernel.source.git import git
from pytest_iommufd.kernel.source.revision import SHORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.store import Cache

_PREFIX = "commit_"
# Of the checkout's and the user's settings, those that would run programs or change the source.
_SETTINGS = (
    *("-c", "core.autocrlf=false"),
    *("-c", "core.fsmonitor=false"),
    *("-c", f"core.hooksPath={os.devnull}"),
)
_SCRATCH = ".pytest-iommufd"
# Names on one command line.
_MANY = 1000
_FULL = re.compile("No space left on device|unable to write file")
_TAIL = 25


@dataclass(frozen=True)
class Earlier:
    """A commit that was exported before.

    Attributes:
        commit: its hash.
        tree: its source tree.
    """

    commit: str
    tree: Path


def path_of(cache: Cache, commit: str) -> Path:
    """The source tree that a commit has or would have.

    Args:
        cache: the cache.
        commit: its hash.

    Returns:
        A folder, which may not exist.
    """
    return cache.sources / f"{_PREFIX}{commit}"


def only_of(kernels: list[Path], cache: Cache, commit: str = "") -> list[Path]:
    """Find the trees in the cache that no kernel needs but some that are to be removed.

    Args:
        kernels: folders of those.
        cache: the cache.
        commit: hash of a commit whose tree counts as theirs too, if it is not empty.

    Returns:
        Trees of commits.
    """
    theirs = {path_of(cache, commit)} if commit else set()
    needed: set[Path] = set()
    for entry in (*kernels, *entries.find(cache, "", {})):
        if record := entries.read(entry):
            (theirs if entry in kernels else needed).add(Path(record.tree))
    mine = cache.sources.glob(f"{_PREFIX}*")
    return [tree for tree in mine if tree in theirs - needed]


def export(
    checkout: Path, commit: str, cache: Cache, progress: Progress, earlier: Earlier | None = None
) -> bool:
    """Have the source tree of a commit in the cache.

    Args:
        checkout: a git checkout, only read.
        commit: the commit's hash.
        cache: where it goes, see `path_of`.
        progress: told what is done.
        earlier: a commit whose files to take where they are the same.

    Returns:
        Whether it was made just now of the earlier one: then each file has the time that it has
        there if it is the same, and is newer than all of them if not.

    Raises:
        Problem: git cannot read the commit, or the cache folder is full or cannot be written.
    """
    tree = path_of(cache, commit)
    with cache.lock(tree, progress), contextlib.ExitStack() as held:
        if tree.is_dir():
            return False
        differing = None
        if earlier:
            # Others may remove it to make room, but not while it is copied.
            held.enter_context(cache.lock(earlier.tree, progress))
            differing = _differing(checkout, earlier, commit)
        with cache.making(tree) as partial:
            git_here = _Git(checkout, partial, cache, progress)
            if earlier and differing is not None:
                _renew(git_here, earlier, commit, differing)
                return True
            cache.need(patching.TREE_SIZE)
            what = f"exporting {commit[:SHORT]} of {checkout}"
            with Estimates(cache.root).timed("export", 20, what, progress):
                git_here.load(commit)
                git_here("checkout-index", "--all")
                git_here.end()
    return False


def _differing(checkout: Path, earlier: Earlier, commit: str) -> dict[str, str] | None:
    """Files that two commits do not have alike, each with git's letter for that.

    None where they are not known: the checkout may have lost the earlier commit.
    """
    if not earlier.tree.is_dir():
        return None
    words = ("-r", "-z", "--name-status", "--no-renames", "--ignore-submodules=all")
    asked = git(checkout, *_SETTINGS, "diff-tree", *words, earlier.commit, commit)
    if asked.returncode:
        return None
    fields = [os.fsdecode(field) for field in asked.stdout.split(b"\0")[:-1]]
    return dict(zip(fields[1::2], fields[::2], strict=True))


def _renew(git_here: _Git, earlier: Earlier, commit: str, differing: dict[str, str]) -> None:
    """Make a tree of an earlier one: links to what is the same, and the rest anew."""
    tree, progress = git_here.tree, git_here.progress
    what = f"exporting {len(differing)} files that differ from {earlier.commit[:SHORT]}"
    with Estimates(git_here.cache.root).timed("export differences", 10, what, progress):
        tree.rmdir()
        patching.copy(earlier.tree, tree, (), progress, share=True)
        # first of all: a file may be added where a folder was, and the other way round
        for name, status in differing.items():
            if status != "A":
                _remove(tree, name)
        git_here.load(commit)
        for names in _chunks(name for name, status in differing.items() if status != "D"):
            git_here("checkout-index", "--force", "--", *names)
        git_here.end()


def _remove(tree: Path, name: str) -> None:
    path = tree / name
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a folder with something in it
        for folder in path.parents:
            if folder == tree:
                break
            folder.rmdir()


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    listed = list(names)
    for at in range(0, len(listed), _MANY):
        yield listed[at : at + _MANY]


class _Git:
    """git, with a worktree and an index that are not the checkout's.

    Args:
        checkout: whose objects it reads.
        tree: where it writes.
        cache: where that is.
        progress: told what it says.
    """

    def __init__(self, checkout: Path, tree: Path, cache: Cache, progress: Progress) -> None:
        self.tree = tree
        self.cache = cache
        self.progress = progress
        self._checkout = checkout
        self._words = ["git", "-C", os.fspath(checkout), f"--work-tree={tree}", *_SETTINGS]
        self._scratch = tree / _SCRATCH

    def load(self, commit: str) -> None:
        """Have a commit in the index: all of it, since what is sparse is decided with -u only."""
        self._scratch.mkdir()
        self("read-tree", commit)

    def end(self) -> None:
        """Leave nothing but the source."""
        shutil.rmtree(self._scratch)

    def __call__(self, *argv: str) -> None:
        """Run it.

        Raises:
            Problem: it failed.
        """
        env = {"GIT_INDEX_FILE": str(self._scratch / "index")}
        status, lines = run([*self._words, *argv], env=env, watch=self.progress.update)
        if status:
            if any(map(_FULL.search, lines)):
                raise self.cache.full()
            raise Problem(
                f"git cannot export the commit from {self._checkout}",
                expected="a checkout that has all files of the commit",
                mend=f"git -C {self._checkout} fsck tells what is missing; fetch it again",
                detail="\n".join(lines[-_TAIL:]),
            )
