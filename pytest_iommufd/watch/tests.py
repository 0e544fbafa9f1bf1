# SPDX-License-Identifier: GPL-2.0-only
"""Runs of pytest on the kernel that is watched, and what they gave."""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import run
from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_iommufd.host.progress import Progress

SUITES = "pytest_iommufd.suites"
DEFAULT = "hwpt_alloc"
"""The suite that is run when none is named: the ioctl that every driver has code for."""
_OURS = ("--kernel", "--rules-json", "--collect-only", "--co")
# Seconds until a run hears of what was saved meanwhile.
_EVERY = 0.1
_TAIL = 20
# Of pytest: all tests passed, some failed, the run was ended early, no tests.
_OK, _FAILED, _INTERRUPTED, _NONE = 0, 1, 2, 5


@dataclass(frozen=True)
class Verdict:
    """What a rule gave.

    Attributes:
        mark: the verdict.
        gave: what the kernel gave: an errno, OK, or the mark.
        reason: why the rule does not hold, one line, else "".
    """

    mark: Mark
    gave: str
    reason: str

    @property
    def bad(self) -> bool:
        """Whether the rule does not hold, in a way that is not known."""
        return self.mark in {Mark.VIOLATED, Mark.CRASHED}


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        rules: verdicts by slug, of the rules that were run.
        tests: how many tests of rules ran.
        seconds: how long it took from its command on.
        stopped: why it did not run all of its tests, "" when it did.
        failed: whether a test failed.
    """

    rules: Mapping[str, Verdict]
    tests: int = 0
    seconds: float = 0.0
    stopped: str = ""
    failed: bool = False

    @property
    def bad(self) -> dict[str, Verdict]:
        """The rules that do not hold, but for known defects."""
        return {slug: verdict for slug, verdict in self.rules.items() if verdict.bad}


class Tests:
    """Runs pytest.

    Args:
        arguments: for pytest, from `arguments`.
        folder: the kernel under test.
        log: receives what pytest prints.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, log: Path) -> None:
        self.log = log
        self._results = folder / "rules.json"
        self._command = [
            *(sys.executable, "-m", "pytest", *arguments),
            *("--iommufd-kernel", os.fspath(folder)),
            *("--iommufd-rules-json", os.fspath(self._results)),
            # nothing is written where the user works, which may be the tree
            *("--override-ini", f"cache_dir={folder / 'pytest-cache'}"),
        ]

    def run(self, progress: Progress) -> Outcome:
        """Run the tests.

        Args:
            progress: told how far it is; what it raises ends the run.

        Returns:
            What it gave.

        Raises:
            Problem: pytest could not run.
        """
        progress.step("testing")
        self._results.unlink(missing_ok=True)

        def watch(line: str) -> None:
            done = re.search(r"\[ *(\d+)%\]$", line)
            progress.update(done[0] if done else "", int(done[1]) / 100 if done else None)

        began = time.monotonic()
        with self.log.open("wb", buffering=0) as log:
            status, lines = run(
                self._command,
                env={"PYTHONUNBUFFERED": "1"},
                log=log,
                watch=watch,
                every=_EVERY,
                stop=signal.SIGINT,  # on which pytest ends its guests in good order
            )
        seconds = time.monotonic() - began
        if status == _NONE:
            raise Problem("no test was chosen", mend="give a suite, or a rule of it")
        data = self._read()
        if data is None or status not in {_OK, _FAILED, _INTERRUPTED}:
            raise Problem(
                f"pytest ended with status {status}",
                mend=f"see all that it says: {self.log}",
                detail="\n".join(lines[-_TAIL:]),
            )
        return _outcome(data, seconds, failed=status != _OK)

    def _read(self) -> dict[str, Any] | None:
        try:
            data: dict[str, Any] = json.loads(self._results.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return data


def _outcome(data: Mapping[str, Any], seconds: float, *, failed: bool) -> Outcome:
    rules = {}
    tests = 0
    for rule in data["rules"]:
        for result in rule["results"].values():
            mark = Mark(result["mark"])
            if mark is not Mark.NOT_RUN:
                verdict = Verdict(mark, result["gave"], result["reason"])
                rules[rule["slug"]] = verdict
                tests += result["tests"]
    return Outcome(rules, tests, seconds, data["stopped"], failed)


def arguments(words: Sequence[str]) -> list[str]:
    """Complete what the user gave for pytest: where no tests are named, name those of a suite.

    Args:
        words: the user's; a suite may be named as it is by `pytest-iommufd rules`.

    Returns:
        Arguments for pytest.

    Raises:
        Problem: one is an option that the loop sets.
    """
    for word in words:
        if word.partition("=")[0].replace("--iommufd-", "--") in _OURS:
            raise Problem(f"watch takes no {word.partition('=')[0]}: it tests the tree, as it is")
    named = [word for word in words if Path(word.partition("::")[0]).exists()]
    if named or any(word.startswith(SUITES) for word in words):
        return list(words)
    return [*words, "--pyargs", *(f"{SUITES}.{suite}" for suite in _suites_of(words))]


def _suites_of(words: Sequence[str]) -> list[str]:
    """The suites of the rules that --rule names, all of them if a pattern does not tell."""
    joined = "\0".join(words)
    patterns = re.findall(r"(?:^|\0)--(?:iommufd-)?rule[=\0]([^\0]*)", joined)
    if not patterns:
        return [DEFAULT]
    known = suites()
    found = [pattern.partition(".")[0] for pattern in patterns]
    return list(dict.fromkeys(found)) if set(found) <= set(known) else known


@functools.cache
def suites() -> list[str]:
    """Return the names of the installed suites."""
    package = importlib.import_module(SUITES)
    return sorted(
        folder.name
        for place in map(Path, package.__path__)
        for folder in place.iterdir()
        if (folder / "rules.toml").is_file()
    )
