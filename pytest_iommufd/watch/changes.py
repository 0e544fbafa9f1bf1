# SPDX-License-Identifier: GPL-2.0-only
"""What is saved in a tree, while others work."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import watchfiles

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from types import TracebackType

# Of so many the kernel may have dropped some.
_MANY = 2000
# How long the watcher takes to tell, at most, when nothing goes on; seconds.
_TELLS = 2.0
_BEAT_MS = 250


@dataclass(frozen=True)
class Saved:
    """What was saved.

    Attributes:
        paths: files and folders of the tree; None for too many to tell.
        at: when the last of them was, seconds since 1970.
    """

    paths: frozenset[Path] | None = field(default_factory=frozenset)
    at: float = 0.0

    def __bool__(self) -> bool:
        return self.paths is None or bool(self.paths)

    def __or__(self, later: Saved) -> Saved:
        both = None
        if self.paths is not None and later.paths is not None:
            both = self.paths | later.paths
        return Saved(both, max(self.at, later.at))


class Changes:
    """Gathers what is saved in a tree from the moment that it is entered as a context.

    Args:
        tree: the tree's top folder.
    """

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._saved = Saved()
        self._error: Problem | None = None
        self._changed = threading.Condition()
        self._begun = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def saved(self) -> Saved:
        """What was saved since the last `take`.

        Raises:
            Problem: the tree cannot be watched.
        """
        with self._changed:
            if self._error:
                raise self._error
            return self._saved

    def wait(self) -> None:
        """Wait until something is saved.

        Raises:
            Problem: the tree cannot be watched any more.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._saved or self._error)

    def take(self) -> Saved:
        """Return what was saved, and begin anew.

        Raises:
            Problem: the tree cannot be watched any more.
        """
        with self._changed:
            if self._error:
                raise self._error
            taken, self._saved = self._saved, Saved()
            return taken

    def _watch(self) -> None:
        problem = Problem(f"{self._tree} is gone")
        try:
            for changes in watchfiles.watch(
                self._tree,
                stop_event=self._stop,
                rust_timeout=_BEAT_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                if changes:
                    self._add(frozenset(Path(path) for _, path in changes))
                elif not self._tree.is_dir():
                    break
                self._begun.set()
        except (OSError, RuntimeError) as error:
            problem = _cannot_watch(self._tree, error)
        with self._changed:
            self._error = problem
            self._changed.notify_all()
        self._begun.set()

    def _add(self, paths: frozenset[Path]) -> None:
        now = time.time()
        times = [now]
        for path in paths:
            with contextlib.suppress(OSError):
                times.append(os.lstat(path).st_ctime)
        at = max((one for one in times if now - _TELLS < one < now), default=now)
        with self._changed:
            self._saved |= Saved(paths if len(paths) < _MANY else None, at)
            self._changed.notify_all()


def _cannot_watch(tree: Path, error: Exception) -> Problem:
    if "watch limit" in str(error):
        return Problem(
            f"{tree} has more folders than this machine lets a user watch",
            mend="sudo sysctl fs.inotify.max_user_watches=524288",
        )
    return Problem(f"{tree} cannot be watched: {error}")
