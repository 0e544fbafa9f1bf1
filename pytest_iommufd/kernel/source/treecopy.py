# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a source tree that follows what is edited there, with patch series applied to it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.cache.store import partial_of
from pytest_iommufd.kernel.series import patching
from pytest_iommufd.kernel.source import listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.series.patchseries import Series

# Of these only Kconfig files go into a build: the others describe it, or test it.
_ABOUT = re.compile(r"(?:Documentation|LICENSES|samples|tools/testing)/(?:.*/)?(?!Kconfig)[^/]*")
# What editors, git, patch and indexers leave; no kernel is built from a file of these names.
_NOISE = re.compile(
    r"\..*|.*~|#.*#|.*\.(?:orig|rej|sw[a-z])|4913|tags|TAGS|cscope\..*|G(?:PATH|TAGS)"
)
_FRESH = ".iommufd-fresh"


class TreeCopy:
    """A copy of a source tree.

    What differs is copied with the time of the copying: to make it is new, whatever time it had
    where it came from. So a file that is put back as it was, with its old time, is compiled again.

    Args:
        tree: the source tree, only read.
        copy: the copy, which need not be up to date; whoever builds from it reads it.
        series: what is applied to the copy, in order.
        origin: what the tree is, for people.
    """

    def __init__(self, tree: Path, copy: Path, series: tuple[Series, ...], origin: str) -> None:
        self.tree = tree
        self.copy = copy
        self._series = series
        self._origin = origin
        self._touched = {name for one in series for patch in one.patches for name in patch.files}
        # of the files that the series touch, as they are with them
        self._patched = copy.with_name(f"{copy.name}-patched")
        self._stale = bool(series)
        # files and folders to look at in the tree; None for all that are not noise
        self._listed: set[str] | None = None

    def differing(self, paths: Iterable[Path] | None, progress: Progress) -> set[str]:
        """Tell which files differ; they were edited, added or deleted in the tree.

        Args:
            paths: where to look in the tree, files and folders; None for everywhere, where files
                of equal size and time are taken to be equal.
            progress: told what is done.

        Returns:
            Their names, relative to the tree.

        Raises:
            Problem: the series do not apply any more.
            OSError: the tree or the copy cannot be read.
        """
        where = [""] if paths is None else [*self._relevant(paths)]
        if self._touched and (self._stale or not self._touched.isdisjoint(self._below(where))):
            self._stale = True
            self._patch(progress)
            self._stale = False
            where += sorted(self._touched)
        if where:
            self._listed = None if listing.is_clean(self.tree) else self._sources(where)
        return {name for one in where for name in self._differing(one, quick=paths is None)}

    def bring(self, names: Iterable[str]) -> None:
        """Copy files, and remove those that are gone.

        Args:
            names: from `differing`.

        Raises:
            OSError: one cannot be read, or the copy cannot be written.
        """
        for name in names:
            source, target = self._source(name), self.copy / name
            here, there = self._here(name), _stat(target)
            if here and not _is_folder(here):
                self._make_folder(target.parent)
                with contextlib.suppress(FileNotFoundError):  # just gone, which will be told
                    _put(source, here, target)
            elif there and not _is_folder(there):
                target.unlink()
                self._remove_empty(target.parent)

    def _sources(self, where: list[str]) -> set[str]:
        """The source files at some places, and the folders that they are in."""
        found = listing.files(self.tree, () if "" in where else where)
        paths = map(PurePosixPath, found)
        return {one.as_posix() for path in paths for one in (path, *path.parents)}

    def _relevant(self, paths: Iterable[Path]) -> Iterator[str]:
        for path in paths:
            # What a link leads to may be told of by its name there.
            there = path.parent.resolve() / path.name
            if there.is_relative_to(self.tree) and there != self.tree:
                name = there.relative_to(self.tree).as_posix()
                if not any(map(_NOISE.fullmatch, PurePosixPath(name).parts)):
                    yield name

    def _below(self, where: list[str]) -> set[str]:
        """The places, and what the series touch in those that are folders."""
        inside = {
            name for one in where for name in self._touched if not one or name.startswith(f"{one}/")
        }
        return inside.union(where)

    def _source(self, name: str) -> Path:
        return (self._patched if name in self._touched else self.tree) / name

    def _here(self, name: str) -> os.stat_result | None:
        """Of what the copy is to have by that name; what a build made is not there."""
        listed = self._listed is None or (name or ".") in self._listed or name in self._touched
        return _stat(self._source(name)) if listed else None

    def _differing(self, name: str, *, quick: bool) -> Iterator[str]:
        source, target = self._source(name), self.copy / name
        here, there = self._here(name), _stat(target)
        if not (_is_folder(here) or _is_folder(there)):
            if not _ABOUT.fullmatch(name) and not _equal(source, here, target, there, quick=quick):
                yield name
            return
        if here and there and _is_folder(here) != _is_folder(there):
            yield name
        for entry in sorted(_listed(source) | _listed(target)):
            if not _NOISE.fullmatch(entry):
                below = f"{name}/{entry}" if name else entry
                yield from self._differing(below, quick=quick)

    def _patch(self, progress: Progress) -> None:
        """Make what the series touch anew; after a failure the last that applied is still there."""
        partial = partial_of(self._patched)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for name in self._touched:
            if (self.tree / name).is_file():
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.tree / name, partial / name)
                shutil.copymode(self.tree / name, partial / name)
        try:
            for one in self._series:
                patching.apply(one, partial, self._origin, progress)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(self._patched, ignore_errors=True)
        partial.rename(self._patched)

    def _make_folder(self, folder: Path) -> None:
        name = folder.relative_to(self.copy)
        for one in reversed((name, *name.parents)):
            path = self.copy / one
            if not _is_folder(_stat(path)):
                path.unlink(missing_ok=True)
                path.mkdir()

    def _remove_empty(self, folder: Path) -> None:
        while folder != self.copy and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent


def _put(source: Path, here: os.stat_result, target: Path) -> None:
    # Never in place: the copy's files may be links to those of others.
    fresh = target.with_name(f"{target.name}{_FRESH}")
    fresh.unlink(missing_ok=True)
    if stat.S_ISLNK(here.st_mode):
        fresh.symlink_to(source.readlink())
    else:
        shutil.copyfile(source, fresh)
        shutil.copymode(source, fresh)
    if _is_folder(_stat(target)):
        shutil.rmtree(target)
    fresh.replace(target)


def _stat(path: Path) -> os.stat_result | None:
    """Of a file, a folder, or of a link itself; None for what is not there, or is a pipe."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kinds = (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
    return found if stat.S_IFMT(found.st_mode) in kinds else None


def _is_folder(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)


def _listed(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are enough
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _equal(
    source: Path,
    here: os.stat_result | None,
    target: Path,
    there: os.stat_result | None,
    *,
    quick: bool,
) -> bool:
    if here is None or there is None:
        return here is there
    if stat.S_ISLNK(here.st_mode) and stat.S_ISLNK(there.st_mode):
        return source.readlink() == target.readlink()
    if (here.st_mode, here.st_size) != (there.st_mode, there.st_size):
        return False
    if quick and here.st_mtime_ns == there.st_mtime_ns:
        return True
    try:
        return source.read_bytes() == target.read_bytes()
    except FileNotFoundError:  # just gone
        return False
