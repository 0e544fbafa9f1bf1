# SPDX-License-Identifier: GPL-2.0-only
"""What the loop shows: lines on standard output, and on a terminal what goes on now."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pytest_iommufd.watch.difference import differences

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from rich.status import Status

    from pytest_iommufd.watch.tests import Outcome

_MANY = 3
_MESSAGES = 12
_WIDTH = 60


class Display:
    """Prints what came out.

    Args:
        console: where to; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)

    def line(self, text: str, style: str = "") -> None:
        """Print a line."""
        self.console.print(Text(text, style))

    def violated(self, outcome: Outcome) -> None:
        """Show what does not hold."""
        for slug, verdict in outcome.bad.items():
            self._rule(f"{slug}: {verdict.mark.value}", verdict.reason, "red")

    def saved(self, names: Collection[str]) -> None:
        """Show which files were saved."""
        some = sorted(names)[:_MANY]
        more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
        self.line(f"{time.strftime('%H:%M:%S')} {', '.join(some)}{more}", "bold")

    def difference(self, before: Outcome, after: Outcome) -> int:
        """Show how two runs differ; returns by how many rules."""
        changes = differences(before.rules, after.rules)
        for change in changes:
            self._rule(str(change), change.reason, "red" if change.worse else "green")
        return len(changes)

    def _rule(self, text: str, reason: str, style: str) -> None:
        self.line(f"  {text}" + (f": {reason}" if reason else ""), style)

    def messages(self, lines: Sequence[str], source: Path, log: Path) -> None:
        """Show what the compiler says, with names as they are in the tree."""
        prefix = f"{os.path.realpath(source)}/"
        for line in lines[:_MESSAGES]:
            self.line(f"  {line.replace(prefix, '')}", "red" if "error" in line else "")
        if len(lines) > _MESSAGES:
            self.line(f"  ... all of it: {log}")


class Spinner:
    """Progress in one line that goes when it is done; nothing where there is no terminal.

    Args:
        console: the terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._name = ""

    def step(self, name: str, expected_seconds: float | None = None) -> None:
        """See `Progress`."""
        del expected_seconds
        self._name = name
        if self._status is None:
            self._status = self._console.status(Text(name))
            self._status.start()
        self._status.update(Text(name))

    def update(self, text: str, fraction: float | None = None) -> None:
        """See `Progress`."""
        del fraction
        if self._status and text and not text.startswith("make"):
            self._status.update(Text(f"{self._name}: {text[:_WIDTH]}"))

    def done(self) -> None:
        """See `Progress`."""
        if self._status:
            self._status.stop()
            self._status = None
