# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of several runs side by side, from the files that --rules-json wrote of them."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_iommufd.errors import Problem
from pytest_iommufd.reports.data import SCHEMA
from pytest_iommufd.reports.history import (
    FILE,
    FORM,
    Given,
    History,
    RuleHistory,
    names,
    sentence,
    unpacked,
)
from pytest_iommufd.rules.catalogue import suites
from pytest_iommufd.rules.verdicts import NO_KERNEL, Mark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_MAKE = "pytest suites --kernel 6.12 --kernel 7.3 --rules-json RUN.json"
_VERSION = re.compile(r"(?P<numbers>\d+(?:\.\d+)+)(?:-rc(?P<candidate>\d+))?")
# How a kernel's source ends that is patched, as kernel/resolver.py writes it.
_PATCHED = re.compile(r" \+ (\S+) \(\d+ patch(?:es)?\)")
# Words of reasons for which rules are absent that are about the run, and not its kernel.
_OF_THE_RUN = ("--iommufd-iommu", "given to the tests", "the real IOMMU")
# pytest's exit status when tests ran to the end: all passed, or some failed.
_COMPLETE = (0, 1)


def load(paths: Sequence[Path] = ()) -> History:
    """Read what runs gave, or a history.

    Args:
        paths: files of --rules-json, each of one kernel or several; or one file of a history. By
            default the history that is shipped.

    Raises:
        Problem: one cannot be read, is neither, or says nothing of a release of Linux; two are of
            the same release; or there is only one kernel.
    """
    read = {path: _content(path) for path in paths or [suites() / FILE]}
    histories = [path for path, data in read.items() if "history" in data]
    if not histories:
        return _joined([one for path, data in read.items() for one in _columns(path, data)])
    if len(read) > 1:
        raise Problem(
            f"{histories[0]} has only rules that differ: no run can be compared with it",
            expected="this file alone, or files of --rules-json",
            mend="leave it out, and give the runs of all kernels",
        )
    with _as_written(histories[0]):
        return unpacked(read[histories[0]])


def _content(path: Path) -> dict[str, Any]:
    """Read a file of either kind, and see that it is one and of this version."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise _problem(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _problem(f"{path} is not JSON: {error}") from error
    for key, version in {"history": FORM, "schema": SCHEMA}.items():
        if isinstance(data, dict) and key in data:
            if data[key] != version:
                what = f"{path} is of another version of pytest-iommufd: its {key} is {data[key]!r}"
                raise _problem(what, f"{key} {version}")
            return data
    raise _problem(f"{path} has no rules of a run in it")


def _problem(what: str, expected: str = "a file that --rules-json wrote") -> Problem:
    return Problem(what, expected=expected, mend=_MAKE)


@contextlib.contextmanager
def _as_written(path: Path) -> Iterator[None]:
    """Say of a file that it is damaged if it cannot be taken apart."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _problem(f"{path} is damaged: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Column:
    """What the rules of a run say, and gave on one of its kernels."""

    path: Path
    release: str
    source: str
    says: Mapping[str, str]
    results: Mapping[str, Given]

    @property
    def version(self) -> tuple[list[int], int, str]:
        """What to sort by: numbers, and a candidate before its release."""
        match = _VERSION.match(self.release)
        assert match  # noqa: S101 - _wrong() has seen to it
        numbers = [int(number) for number in match["numbers"].split(".")]
        return numbers, int(match["candidate"] or sys.maxsize), self.release


def _columns(path: Path, data: Mapping[str, Any]) -> list[_Column]:
    """Take a run apart."""
    with _as_written(path):
        kernels = [kernel for kernel in data["kernels"] if kernel["name"] != NO_KERNEL]
        if wrong := _unfinished(data, kernels) or "; it ".join(filter(None, map(_wrong, kernels))):
            raise _problem(f"{path} {wrong}", "a complete run, of kernels as they were released")
        rules = {names(rule["slug"])[0]: rule for rule in data["rules"]}
        says = {slug: rule["sentence"] for slug, rule in rules.items()}
        return [
            _Column(
                *(path, kernel["release"], kernel["source"], says),
                {slug: _given(rule["results"][kernel["name"]]) for slug, rule in rules.items()},
            )
            for kernel in kernels
        ]


def _unfinished(data: Mapping[str, Any], kernels: Sequence[Mapping[str, Any]]) -> str:
    """Tell why a run says nothing of its kernels, "" if it does."""
    if data["stopped"]:
        return f"is of a run that was stopped: {data['stopped']}"
    if data["exit_status"] not in _COMPLETE:
        return f"is of a run that ended with status {data['exit_status']}"
    return "" if kernels and data["rules"] else "is of a run that tested no rule on a kernel"


def _wrong(kernel: Mapping[str, Any]) -> str:
    """Tell why a kernel's results are not those of a release of Linux, "" if they are."""
    name, release = kernel["name"], kernel["release"]
    if series := _PATCHED.search(kernel["source"]):
        return f"has the kernel {name}, which is patched with {series[1]}"
    if not _VERSION.match(release):
        return f"has the kernel {name}, whose release is not known: {release!r}"
    if set(kernel["counts"]) <= {Mark.NOT_RUN.value}:
        return f"has the kernel {name}, on which no rule was run"
    return ""


def _given(result: Mapping[str, Any]) -> Given:
    """Take what counts of a result."""
    mark, reason = Mark(result["mark"]), result["reason"]
    if mark is Mark.ABSENT and any(words in reason for words in _OF_THE_RUN):
        return Given()
    why = "" if mark in {Mark.HOLDS, Mark.NOT_RUN} else result["known"] or reason
    return Given(mark, result["gave"], why)


def _joined(columns: Iterable[_Column]) -> History:
    """Put kernels side by side, in the order of their versions."""
    by_release: dict[str, _Column] = {}
    for column in sorted(columns, key=lambda column: column.version):
        if other := by_release.get(column.release):
            files = " and ".join(dict.fromkeys((str(other.path), str(column.path))))
            what = f"two kernels are of the release {column.release}, in {files}"
            raise Problem(what, expected="each release once", mend="leave one of them out")
        by_release[column.release] = column
    if len(by_release) < 2:
        what = f"there is nothing to compare {', '.join(by_release)} with"
        raise Problem(what, expected="runs of two kernels at least", mend=_MAKE)
    says = {slug: says for one in by_release.values() for slug, says in one.says.items()}
    rules = {
        slug: RuleHistory(
            sentence(slug) or says[slug],
            {release: one.results.get(slug, Given()) for release, one in by_release.items()},
        )
        for slug in sorted(says)
    }
    return History(
        {release: one.source for release, one in by_release.items()},
        {slug: rule for slug, rule in rules.items() if rule.differs},
    )
