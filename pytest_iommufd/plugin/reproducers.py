# SPDX-License-Identifier: GPL-2.0-only
"""Writes a reproducer of each test that fails, in the forms that were asked for."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.files import write_whole
from pytest_iommufd.iommufd import IoctlError
from pytest_iommufd.iommufd.leaks import LeakError
from pytest_iommufd.iommufd.request import Call
from pytest_iommufd.lab import LAB
from pytest_iommufd.machine import BootFailed, KernelSplat, StoodStill, Verdict
from pytest_iommufd.plugin.kernels import spec_of
from pytest_iommufd.reproducer import c, script, syz
from pytest_iommufd.reproducer.trace import CALL, TEARDOWN, Trace
from pytest_iommufd.reproducer.translate import Failure, translate
from pytest_iommufd.rules.catalogue import beside
from pytest_iommufd.rules.expectation import EXPECTATION
from pytest_iommufd.rules.judging import results
from pytest_iommufd.rules.marker import rule_of
from pytest_iommufd.rules.rerun import command
from pytest_iommufd.rules.verdicts import Mark
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_iommufd.lab import Bench

FORMS = {
    "c": (c.program, ".c"),
    "kselftest": (c.kselftest, ".kselftest.c"),
    "syz": (syz.program, ".syz"),
}
_FOLDER = pytest.StashKey[Path]()
_TRACE = pytest.StashKey[Trace]()
_ALONE = pytest.StashKey[dict[tuple[str, str], int]]()
_PROPERTY = "iommufd_reproducer"
_MOST = 180
# Bytes of a file whose top says that it is ours.
_HEAD = 8192
# How Expectation and raises_errno() begin.
_NOT_AS_EXPECTED = "expected "


def pytest_configure(config: pytest.Config) -> None:
    """See that the folder can be written to, before anything else."""
    if not config.option.iommufd_reproducer or config.option.collectonly:
        return
    folder = (
        config.invocation_params.dir
        / Path(config.option.iommufd_reproducer_folder or "reproducers").expanduser()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise pytest.UsageError(
            f"--reproducer-folder {folder} cannot be written to: {error.strerror}\n"
            "expected: a folder that is yours, or one that can be made"
        ) from None
    config.stash[_FOLDER] = folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Count each rule's tests: one that is alone needs no more in its file's name."""
    found: dict[tuple[str, str], int] = {}
    for item in items:
        key = (rule_of(item), spec_of(item))
        found[key] = found.get(key, 0) + 1
    config.stash[_ALONE] = found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Observe the test's machine from here on."""
    if _FOLDER not in item.config.stash or not spec_of(item):
        return
    # an error shows again, and better, when the test's fixtures need the machine
    with contextlib.suppress(Problem):
        observers = _bench(item).machine.observers
        item.stash[_TRACE] = trace = Trace()
        observers[:] = [trace, *(each for each in observers if not isinstance(each, Trace))]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Tell the test's own calls from those of its fixtures."""
    if _TRACE in item.stash:
        item.stash[_TRACE].phase = CALL


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Tell the end's."""
    if _TRACE in item.stash:
        item.stash[_TRACE].phase = TEARDOWN


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write the files when a test has failed, or has passed and is wanted too."""
    report = yield
    trace = item.stash.get(_TRACE, None)
    if trace is None:
        return report
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, pytest.skip.Exception | Problem | BootFailed | StoodStill):
        return report
    everything = item.config.option.iommufd_reproducer_of == "all"
    if error is None and not (everything and call.when == CALL):
        return report
    try:
        paths = _write(item, trace, report, error)
    except OSError as problem:
        note = f"could not be written: {problem}"
    except Exception as problem:  # noqa: BLE001 - the test's own result must not be lost
        note = f"could not be made: {type(problem).__name__}: {problem}"
    else:
        note = "\n".join(map(str, paths))
        report.user_properties += [(_PROPERTY, str(path)) for path in paths]
    if note:
        report.sections.append(("iommufd reproducers", note))
    return report


def written(report: pytest.TestReport) -> tuple[str, ...]:
    """Return the files that were written of a test, here or in another process."""
    return tuple(str(value) for key, value in report.user_properties if key == _PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many there are."""
    if not terminalreporter.config.option.iommufd_reproducer:
        return
    reports = [one for some in terminalreporter.stats.values() for one in some]
    paths = {
        Path(path)
        for report in reports
        if isinstance(report, pytest.TestReport)
        for path in written(report)
    }
    if paths:
        folders = ", ".join(sorted({str(path.parent) for path in paths}))
        terminalreporter.line(f"reproducers: {len(paths)} files in {folders}")


# ---- one test ----


def _write(
    item: pytest.Item, trace: Trace, report: pytest.TestReport, error: BaseException | None
) -> list[Path]:
    if not any(event.is_call for event in trace.events()):
        return []
    bench = _bench(item)
    if expectation := item.stash.get(EXPECTATION, None):
        judged = [call.result for call in expectation.judged if isinstance(call, Call)]
        trace.judge(judged, expectation.result)
    made = translate(trace, bench.uapi, _failure(error) if error else None, report.when or CALL)
    folder = item.config.stash[_FOLDER]
    header = _header(item, bench, *_outcome(report, error))
    paths = []
    for form in dict.fromkeys(item.config.option.iommufd_reproducer):
        render, suffix = FORMS[form]
        path = _free(folder / f"{_name(item, bench.kernel.name)}{suffix}")
        header.file = path.name
        try:
            text = render(made, header, bench.uapi)
        except script.Unfit as reason:
            mark = "#" if form == "syz" else "//"
            said = [f"{header.slug} has no {form} form: {reason}.", *header.lines()]
            text = "".join(f"{mark} {line}\n" for line in said)
        write_whole(path, text)
        paths.append(path)
    return paths


def _free(path: Path) -> Path:
    """Return a path, or one beside it where a file of its name is there that we did not make."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], others) if _is_ours(one))


def _is_ours(path: Path) -> bool:
    """Tell whether a file can be made or replaced."""
    try:
        with path.open("rb") as file:
            return script.MADE.encode() in file.read(_HEAD)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # a folder, or what only others may read


def _outcome(report: pytest.TestReport, error: BaseException | None) -> tuple[str, str]:
    """Say what a test came to, and which known defect it has shown, if any."""
    found = next((one for one in results(report) if one.mark is Mark.DEFECT), None)
    known = f"{found.reason}: {found.known}" if found else ""
    if error:
        return f"failed: {_first_line(error)}", known
    return "passed, with the known defect" if found else "passed", known


def _failure(error: BaseException) -> Failure:
    text = _first_line(error)
    if isinstance(error, KernelSplat):
        return Failure(script.BY_LOG, text)
    if isinstance(error, Verdict):
        return Failure(script.BY_RETURN, text)
    if isinstance(error, LeakError):
        return Failure(script.BY_DEVICES, text)
    if isinstance(error, IoctlError):
        return Failure(script.BY_CALLS, text, errno_name(error.errno or 0))
    if isinstance(error, AssertionError) and text.startswith(_NOT_AS_EXPECTED):
        return Failure(script.BY_CALLS, text)
    return Failure(script.BY_SAMENESS, f"{type(error).__name__}: {text}")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _header(item: pytest.Item, bench: Bench, result: str, known: str) -> script.Header:
    slug, kernel = rule_of(item), bench.kernel
    header = script.Header(
        slug=slug or item.name,
        says="",
        sources=[],
        kernel=f"{kernel.name}, release {kernel.release}, {kernel.source}",
        result=result,
        command=command(item.path.parent, slug, kernel.spec, item.nodeid)
        if slug
        else f"pytest {item.nodeid}",
        defect=known,
    )
    catalogue = beside(item.path.parent) if slug else None
    if catalogue and catalogue.has(slug):
        rule = catalogue.rule(slug)
        header.says, header.sources = rule.says, [catalogue.credit(one) for one in rule.source]
        header.promises = [
            f"{catalogue.promised(one)} ({catalogue.link(one)})" for one in rule.promise
        ]
    return header


def _name(item: pytest.Item, kernel: str) -> str:
    """Name a file: by rule and kernel, and by the test where a rule has several."""
    slug, test = rule_of(item), item.name.partition("[")[0]
    parts = [slug or test, kernel]
    if not slug or item.config.stash[_ALONE].get((slug, spec_of(item)), 0) > 1:
        callspec = getattr(item, "callspec", None)
        marked = f"-{callspec.id}-".replace(f"-{kernel}-", "-", 1) if callspec else ""
        own = [marked.strip("-")] if marked.strip("-") else []
        parts += [test.removeprefix("test_"), *own] if slug else own
    name = re.sub(r"[^\w.+-]", "_", "-".join(parts))
    if len(name) > _MOST:
        name = f"{name[:_MOST]}-{hashlib.sha256(item.nodeid.encode()).hexdigest()[:8]}"
    return name


def _bench(item: pytest.Item) -> Bench:
    return item.config.stash[LAB].bench(spec_of(item))
