# SPDX-License-Identifier: GPL-2.0-only
"""What tests of the loop use: a tree that is edited, and the loop as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.cache.store import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 300


class EditedTree:
    """A source tree that may be edited, by rename only: its files are links to others'.

    Attributes:
        path: its top folder.
        cache: a cache of its own, which has its kernel.
    """

    def __init__(self, path: Path, cache: Path) -> None:
        self.path = path
        self.cache = cache
        self._texts: dict[str, str] = {}

    def save(self, name: str, edit: Callable[[str], str]) -> None:
        """Save a file anew.

        Args:
            name: the file.
            edit: makes its text of the text that it had at first.
        """
        path = self.path / name
        text = self._texts.setdefault(name, path.read_text("utf-8"))
        edited = edit(text)
        fresh = path.with_name(f"{path.name}.fresh")
        fresh.write_text(edited, "utf-8")
        fresh.replace(path)

    def put_back(self, name: str) -> None:
        """Save a file as it was at first."""
        self.save(name, lambda text: text)


class Watching:
    """A loop that runs.

    Args:
        tree: what it watches.
        arguments: for pytest.
        environment: what to add to this one.
    """

    def __init__(self, tree: EditedTree, *arguments: str, **environment: str) -> None:
        self._popen = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest_iommufd.commands.main", "watch", str(tree.path)),
                *arguments,
            ],
            env={**os.environ, VARIABLE: str(tree.cache), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tree.cache,
        )
        self._lines: list[str] = []
        self._seen = 0
        self._ended = False
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout
        for line in self._popen.stdout:
            with self._told:
                self._lines.append(line.rstrip())
                self._told.notify_all()
        with self._told:
            self._ended = True
            self._told.notify_all()

    def until(self, pattern: str) -> list[str]:
        """Wait for a line; returns the lines since the last time, that one last."""

        def found() -> int:
            at = range(self._seen, len(self._lines))
            return next((i + 1 for i in at if re.search(pattern, self._lines[i])), 0)

        with self._told:
            self._told.wait_for(lambda: found() or self._ended, SECONDS)
            assert found(), "\n".join(self._lines)
            begin, self._seen = self._seen, found()
            return self._lines[begin : self._seen]

    def guests(self) -> set[int]:
        """Process ids of its QEMUs."""
        parents = {}
        names = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "stat").read_text().rpartition(")")
            except OSError:
                continue
            names[int(folder.name)] = words[0].partition("(")[2]
            parents[int(folder.name)] = int(words[2].split()[1])

        def ours(pid: int) -> bool:
            return pid == self._popen.pid or (pid in parents and ours(parents[pid]))

        return {pid for pid, name in names.items() if name.startswith("qemu") and ours(pid)}

    def until_guest(self) -> set[int]:
        """Wait for a QEMU of its."""
        end = time.monotonic() + SECONDS
        while not (found := self.guests()):
            assert time.monotonic() < end
            time.sleep(0.02)
        return found

    def interrupt(self) -> int:
        """Press Ctrl-C; returns its exit status."""
        self._popen.send_signal(signal.SIGINT)
        status = self._popen.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def close(self) -> None:
        """End it in any case."""
        if self._popen.poll() is None:
            self._popen.terminate()
        self._popen.wait(SECONDS)
