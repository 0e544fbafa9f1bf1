# SPDX-License-Identifier: GPL-2.0-only
"""Runs the rules that kernels are known to break, and writes a mail of each defect that shows."""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import json
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.display import default
from pytest_iommufd.host.run import run
from pytest_iommufd.reports.letter import Broken, Tested, first, letter, subject
from pytest_iommufd.rules.rerun import suite_package
from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_iommufd.rules.catalogue import Catalogue
    from pytest_iommufd.rules.model import Rule

_TAIL = 20
# Of pytest: all tests passed, some failed.
_RAN = (0, 1)


def write(
    folder: Path,
    kernels: Sequence[str],
    rules: Sequence[tuple[Catalogue, Rule]],
    options: Sequence[str] = (),
) -> None:
    """Run rules with known defects, write a mail of each defect that shows, and list the rest.

    Args:
        folder: receives the mails, and their programs beside them; new, or empty.
        kernels: specs.
        rules: those to run.
        options: more options for pytest.

    Raises:
        Problem: there is something in the folder, or the tests could not be run.
    """
    # Here: the list of defects is not to wait for what only this needs.
    from pytest_iommufd.kernel import resolve  # noqa: PLC0415

    _take(folder)
    trees = {spec: resolve(spec).tree for spec in kernels}
    with tempfile.TemporaryDirectory(prefix="pytest-iommufd-") as scratch:
        data = _results(Path(scratch), kernels, rules, options)
        tested = {
            one["name"]: Tested(one["release"], one["source"], trees.get(one["spec"]))
            for one in data["kernels"]
        }
        defects: dict[str, list[Broken]] = {}
        rest: list[str] = []
        for row, catalogue, rule in _rows(data, rules):
            shown = list(_broken(row, catalogue, rule, tested))
            for one in shown:
                defects.setdefault(one.defect.why, []).append(one)
            if not shown:
                rest += _unshown(row)
        for broken in defects.values():
            _write(folder, broken)
    if rest:
        print("no mail:", *rest, sep="\n  ")


def _take(folder: Path) -> None:
    """Make a folder, or see that nothing is in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except OSError as error:
        raise Problem(f"--write {folder}: {error.strerror}", expected="a new folder") from error
    if full:
        raise Problem(
            f"--write {folder}: there is something in it, and nothing is overwritten",
            expected="a new folder, or an empty one",
        )


def _results(
    scratch: Path,
    kernels: Sequence[str],
    rules: Sequence[tuple[Catalogue, Rule]],
    options: Sequence[str],
) -> dict[str, Any]:
    """Run pytest; return what its JSON report has."""
    report = scratch / "rules.json"
    packages = {suite_package(catalogue.path.parent) for catalogue, _ in rules}
    progress = default()
    progress.step("testing")

    def watch(line: str) -> None:
        done = re.search(r"\[ *(\d+)%\]$", line)
        if done:
            progress.update(done[0], int(done[1]) / 100)

    try:
        status, lines = run(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options),
                *(f"--iommufd-kernel={spec}" for spec in kernels),
                *(f"--iommufd-rule={rule.slug}" for _, rule in rules),
                *("--iommufd-reproducer", "c", "--iommufd-reproducer-of", "all"),
                *("--iommufd-reproducer-folder", str(scratch / "programs")),
                *("--iommufd-rules-json", str(report), "--pyargs", *sorted(packages)),
            ],
            env={"PYTHONUNBUFFERED": "1"},
            watch=watch,
            stop=signal.SIGINT,  # on which pytest ends its guests in good order
        )
    finally:
        progress.done()
    if status not in _RAN:
        raise Problem(f"pytest ended with status {status}", detail="\n".join(lines[-_TAIL:]))
    data: dict[str, Any] = json.loads(report.read_text("utf-8"))
    return data


def _rows(
    data: Mapping[str, Any], rules: Sequence[tuple[Catalogue, Rule]]
) -> Iterator[tuple[Mapping[str, Any], Catalogue, Rule]]:
    """Return what was found of the rules, one by one those that a rule stands for."""
    for catalogue, rule in rules:
        for row in data["rules"]:
            if rule.stands_for(row["slug"]):
                yield row, catalogue, rule


def _broken(
    row: Mapping[str, Any], catalogue: Catalogue, rule: Rule, tested: Mapping[str, Tested]
) -> Iterator[Broken]:
    """Return what a row says of each defect that has shown itself."""
    results = {tested[name]: result for name, result in row["results"].items()}
    holds = [kernel for kernel, one in results.items() if one["mark"] == Mark.HOLDS.value]
    for defect in rule.defects:
        shown = {
            kernel: one
            for kernel, one in results.items()
            if one["known"] == defect.why and one["got"] == defect.gives
        }
        if shown:
            yield Broken(row["slug"], rule, catalogue, defect, shown, holds)


def _unshown(row: Mapping[str, Any]) -> Iterator[str]:
    """Say what became of a rule on kernels that did not show its defect."""
    for kernel, result in row["results"].items():
        reason = f": {result['reason']}" if result["reason"] else ""
        yield f"{row['slug']}: {result['mark']} on {kernel}{reason}"


def _write(folder: Path, broken: Sequence[Broken]) -> None:
    one = first(broken)
    programs = list(map(Path, one.result["reproducers"]))
    text = programs[0].read_text("utf-8") if programs else ""
    for program in programs:
        (folder / program.name).write_text(program.read_text("utf-8"), "utf-8")
    path = folder / f"{one.slug}.txt"
    path.write_text(letter(broken, text), "utf-8")
    print(f"{path}: {subject(one)}")
