# SPDX-License-Identifier: GPL-2.0-only
"""Notes when a process that runs a guest could not run, through no fault of the guest.

A guest that stood still sees its clock jump: QEMU's is the host's. Its kernel then complains of
stalls, and calls miss their deadlines. Neither its log nor the time tells that from a kernel that
hangs, and one that waits uses as little of the processor as one that is stopped. So the host looks
at the process twice a second: whether it is stopped, how long its threads waited for a processor,
and whether the look itself came late, as the whole host stood still.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from pathlib import Path

_PERIOD = 0.5
# A look that is not later than this was in time.
_LATE = 1.0
# How long it is remembered: longer than the time after which a kernel complains.
_KEPT = 600.0
_NS = 1e9


class Pulse:
    """Looks at a process until it is closed.

    Args:
        pid: its id.
    """

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        self._lock = threading.Lock()
        self._last = time.monotonic()
        self._waited = self._delays()
        self._still: list[tuple[float, float, str]] = []
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name=f"pulse of {pid}", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def still(self, since: float) -> tuple[float, str]:
        """Return how long the process could not run, in seconds, and what was most of that.

        Args:
            since: a time.monotonic() value.
        """
        self._look()
        reasons: Counter[str] = Counter()
        with self._lock:
            for at, lost, why in self._still:
                reasons[why] += max(0.0, min(lost, at - since))  # type: ignore[assignment]
        return sum(reasons.values()), max(reasons, key=reasons.__getitem__, default="")

    def _watch(self) -> None:
        while not self._closed.wait(_PERIOD):
            self._look()

    def _look(self) -> None:
        with self._lock:
            now = time.monotonic()
            elapsed, self._last = now - self._last, now
            before, self._waited = self._waited, self._delays()
            waits = [wait - before.get(name, wait) for name, wait in self._waited.items()]
            lost, why = min(elapsed, max(waits, default=0.0)), "it waited for a processor"
            if elapsed > _PERIOD + _LATE:
                lost, why = elapsed, "the host stood still"
            if self._is_stopped():
                lost, why = elapsed, "its process was stopped"
            self._still = [part for part in self._still if part[0] > now - _KEPT]
            if lost > 0:
                self._still.append((now, lost, why))

    def _is_stopped(self) -> bool:
        try:
            state = (self._process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state in "Tt"

    def _delays(self) -> dict[str, float]:
        """Return how long each thread was ready to run and did not, where the host counts that."""
        delays = {}
        with contextlib.suppress(OSError):  # the process may end while its threads are listed
            for file in self._process.glob("task/*/schedstat"):
                with contextlib.suppress(OSError, IndexError):  # or one of them
                    delays[file.parent.name] = int(file.read_text().split()[1]) / _NS
        return delays
