# SPDX-License-Identifier: GPL-2.0-only
"""The folder where sources, builds and what was learned from them are kept.

    kernels/NAME-KEY/      a finished kernel: bzImage, modules/, NAME.json (its uAPI), build/,
                           and source/ if that is patched, or a copy of what was built in place
    sources/PKG_VERSION/   an unpacked source package
    sources/commit_HASH/   an exported commit; what it has in common with others are links
    watched/NAME-KEY/      a kernel that `watch` builds again and again: what a finished kernel has,
                           and source/, the copy of the tree that it is built from
    unpacked/NAME-KEY/     a kernel in packages, unpacked
    downloads/NAME/        the packages of a kernel that was given by name
    apt/                   the private package lists
    logs/NAME-KEY.log      the log of the last build, finished or not
    locks/                 a lock for each of the above
    estimates.json         how long things took here

An entry is made under its lock in `ENTRY.partial` and renamed when it is whole, so whatever has an
entry's name is whole. What a killed run left behind is removed by the next run that builds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.host.progress import Progress

VARIABLE = "PYTEST_IOMMUFD_CACHE"
FOLDERS = ("kernels", "sources", "unpacked", "downloads", "watched")
"""The names of the folders of entries."""
PARTIAL = ".partial"
"""Ends the name of what is being made."""
_ELSEWHERE = f"free some space, or set {VARIABLE} to a folder on another file system"


def default_root() -> Path:
    """The cache folder: $PYTEST_IOMMUFD_CACHE, else the user's cache directory.

    Returns:
        An absolute path; it may not exist.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - not needed by those who choose the folder

    return Path(platformdirs.user_cache_dir("pytest-iommufd"))


@dataclass(frozen=True)
class Cache:
    """A cache folder.

    Attributes:
        root: its path, absolute.
    """

    root: Path

    @classmethod
    def at(cls, root: Path | None) -> Cache:
        """Open a cache folder; nothing is created.

        Args:
            root: its path, None for the default.

        Returns:
            The cache.
        """
        return cls(root.absolute() if root else default_root())

    @property
    def kernels(self) -> Path:
        """The folder of finished kernels."""
        return self.root / "kernels"

    @property
    def sources(self) -> Path:
        """The folder of unpacked source packages."""
        return self.root / "sources"

    @property
    def watched(self) -> Path:
        """The folder of kernels that follow their trees."""
        return self.root / "watched"

    @property
    def unpacked(self) -> Path:
        """The folder of unpacked kernels that others have built."""
        return self.root / "unpacked"

    @property
    def downloads(self) -> Path:
        """The folder of downloaded packages of kernels."""
        return self.root / "downloads"

    def log(self, entry: Path) -> Path:
        """The log of an entry's build.

        Args:
            entry: an entry of `kernels`.

        Returns:
            Its path; it may not exist.
        """
        return self.root / "logs" / f"{entry.name}.log"

    @contextlib.contextmanager
    def lock(self, entry: Path, progress: Progress) -> Iterator[None]:
        """Hold an entry, waiting for whoever holds it now.

        Args:
            entry: a path below the root; it need not exist.
            progress: told when there is someone to wait for.

        Raises:
            Problem: the cache folder cannot be written.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - only builders need it

        with self.writing():
            lock = FileLock(self._lock_path(entry))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                progress.step(f"another run is making {entry.name}; waiting for it")
                while not lock.is_locked:
                    progress.update("")
                    with contextlib.suppress(Timeout):
                        lock.acquire(timeout=1)
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def claim(self, entry: Path, problem: Problem) -> Iterator[None]:
        """Hold an entry that nobody else may hold meanwhile.

        Args:
            entry: a path below the root; it need not exist.
            problem: raised if somebody holds it.

        Raises:
            Problem: as given, or the cache folder cannot be written.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - only builders need it

        with self.writing():
            lock = FileLock(self._lock_path(entry), timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise problem from None
        try:
            yield
        finally:
            lock.release()

    def sweep(self) -> None:
        """Remove what killed runs left behind, except what a live run is working on."""
        from filelock import FileLock, Timeout  # noqa: PLC0415 - only builders need it

        for name in FOLDERS:
            for partial in (self.root / name).glob(f"*{PARTIAL}"):
                entry = partial.with_name(partial.name.removesuffix(PARTIAL))
                with (
                    contextlib.suppress(Timeout),
                    FileLock(self._lock_path(entry), timeout=0),
                ):
                    shutil.rmtree(partial, ignore_errors=True)

    def made(self, entry: Path) -> bool:
        """Tell whether an entry was made here: then it has a lock, which outlives it."""
        return self._lock_path(entry.with_name(entry.name.removesuffix(PARTIAL))).exists()

    def remove(self, entry: Path) -> bool:
        """Remove an entry and what was left of making it, unless a live run is working on it.

        Args:
            entry: its path; it need not exist.

        Returns:
            Whether it is gone now.

        Raises:
            Problem: the cache folder cannot be written.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - only builders need it

        partial = partial_of(entry)
        with (
            contextlib.suppress(Timeout),
            self.writing(),
            FileLock(self._lock_path(entry), timeout=0),
        ):
            shutil.rmtree(partial, ignore_errors=True)
            if entry.is_dir():
                entry.replace(partial)  # at once: no run ever sees half of it
                shutil.rmtree(partial)
            entry.unlink(missing_ok=True)
            return True
        return False

    @contextlib.contextmanager
    def making(self, entry: Path) -> Iterator[Path]:
        """Make an entry: a folder to fill, which gets the entry's name when all went well.

        The caller holds the entry's lock, and has found what bears its name now to be of no use.

        Args:
            entry: its final path.

        Yields:
            An empty folder beside it.

        Raises:
            Problem: the cache folder is full or cannot be written.
        """
        partial = partial_of(entry)
        with self.writing():
            for leftover in (partial, entry):
                shutil.rmtree(leftover, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                yield partial
                os.replace(partial, entry)  # noqa: PTH105 - its atomicity is the point
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the errors of writing below the root into problems that name it.

        Raises:
            Problem: the cache folder is full or cannot be written.
        """
        try:
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self.full() from error
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
                raise Problem(
                    f"cannot write the cache folder {self.root}: {error.strerror}",
                    mend=f"set {VARIABLE} to a folder that can be written",
                    detail=f"at: {error.filename}" if error.filename else "",
                ) from error
            raise

    def full(self) -> Problem:
        """The problem of a file system that filled up half-way."""
        return Problem(
            f"no space left in the cache folder {self.root}; nothing half-made was kept",
            mend=_ELSEWHERE,
        )

    def need(self, size: int) -> None:
        """Check that there is room.

        Args:
            size: bytes about to be written.

        Raises:
            Problem: there is less.
        """
        with self.writing():
            free = shutil.disk_usage(self.root).free
        if free < size:
            raise Problem(
                f"{gigabytes(size)} are needed in the cache folder {self.root}, "
                f"{gigabytes(free)} are free",
                mend=_ELSEWHERE,
            )

    def _lock_path(self, entry: Path) -> Path:
        return self.root / "locks" / f"{entry.parent.name}-{entry.name}.lock"


def partial_of(entry: Path) -> Path:
    """Where an entry is while it is being made.

    Args:
        entry: its final path.

    Returns:
        A path beside it.
    """
    return entry.with_name(entry.name + PARTIAL)


def gigabytes(size: int) -> str:
    """Bytes as people say them.

    Args:
        size: bytes.

    Returns:
        Such as `1.9 GB`.
    """
    return f"{size / 1e9:.1f} GB"


@dataclass(frozen=True)
class Estimate:
    """How long a kind of work took last time.

    Attributes:
        seconds: its duration.
        lines: the lines its program printed; 0 when they tell nothing.
    """

    seconds: float
    lines: int = 0


class Estimates:
    """What this machine has learned about durations; wrong or missing files only cost accuracy.

    Args:
        root: the cache folder.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "estimates.json"

    def get(self, kind: str, shipped: Estimate) -> Estimate:
        """What the last work of a kind took.

        Args:
            kind: kind of work.
            shipped: the answer when it was never done here.

        Returns:
            The estimate.
        """
        try:
            known = self._read()[kind]
            return Estimate(float(known["seconds"]), int(known["lines"]))
        except (KeyError, TypeError, ValueError):
            return shipped

    def put(self, kind: str, estimate: Estimate) -> None:
        """Remember what work took.

        Args:
            kind: kind of work.
            estimate: what it took.
        """
        known = self._read()
        known[kind] = {"seconds": round(estimate.seconds, 1), "lines": estimate.lines}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(known, indent=1))

    @contextlib.contextmanager
    def timed(self, kind: str, shipped: float, what: str, progress: Progress) -> Iterator[None]:
        """Show a step with the time it took last, and remember what it takes now.

        Args:
            kind: kind of work.
            shipped: seconds that it takes, when it was never done here.
            what: what is done, for people.
            progress: shows it.
        """
        progress.step(what, self.get(kind, Estimate(shipped)).seconds)
        began = time.monotonic()
        yield
        self.put(kind, Estimate(time.monotonic() - began))

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            known = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
