# SPDX-License-Identifier: GPL-2.0-only
"""Gathers the rules' results of a run, those of its workers too, and reports them at its end."""

from __future__ import annotations

import contextlib
import functools
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.files import writable, write_whole
from pytest_iommufd.hwpt_types.registry import declared
from pytest_iommufd.lab import LAB
from pytest_iommufd.plugin.kernels import is_worker, names, spec_of
from pytest_iommufd.plugin.reproducers import written
from pytest_iommufd.reports import html as rules_html
from pytest_iommufd.reports import json as rules_json
from pytest_iommufd.reports import terminal
from pytest_iommufd.reports.data import KernelInfo, Run, gather
from pytest_iommufd.rules.catalogue import Catalogue, beside, rule_in
from pytest_iommufd.rules.judging import results
from pytest_iommufd.rules.marker import matches, rule_of
from pytest_iommufd.rules.verdicts import NO_KERNEL, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

NOTES = "iommufd"
_RENDERERS = {"--rules-json": rules_json.render, "--rules-html": rules_html.render}
# Folders of the catalogues of what was collected, and its rules that stand in none by name.
_FOLDERS = pytest.StashKey[list[Path]]()
_MADE = pytest.StashKey[list[str]]()


def report_files(config: pytest.Config) -> dict[str, Path]:
    """Return the files that are to be written, by the option that names them.

    Raises:
        Problem: one cannot be written.
    """
    if config.option.collectonly:
        return {}
    options = vars(config.option)
    wanted = {
        option: config.invocation_params.dir / Path(given).expanduser()
        for option in _RENDERERS
        if (given := options[f"iommufd_{option[2:].replace('-', '_')}"])
    }
    for option, path in wanted.items():
        writable(option, path)
    return wanted


def collect(config: pytest.Config, items: Iterable[pytest.Item]) -> None:
    """Note the catalogues of tests; have these look their rule up, and tell their dialect.

    Raises:
        Problem: a catalogue is not right.
    """
    folders = config.stash.setdefault(_FOLDERS, [])
    made: list[str] = config.stash.setdefault(_MADE, [])
    for item in items:
        slug, catalogue = rule_of(item), beside(item.path.parent)
        if not slug or not catalogue:
            continue
        if slug not in catalogue.rules and catalogue.has(slug):
            made.append(slug)
        if item.path.parent not in folders:
            folders.append(item.path.parent)
        if spec_of(item):
            names: list[str] = item.fixturenames  # type: ignore[attr-defined]
            names[:0] = [name for name in ("dialect", "_rule") if name not in names]


def notes(config: pytest.Config) -> dict[str, Any]:
    """Return what a worker knows and the run that it works for does not."""
    return {
        "folders": [str(folder) for folder in config.stash.get(_FOLDERS, [])],
        "made": config.stash.get(_MADE, []),
        "kernels": [asdict(info) for info in _kernels(config)],
    }


def _kernels(config: pytest.Config) -> list[KernelInfo]:
    """Describe the kernels of this process; a declared type is no new name of a header."""
    names: set[str] = set()
    with contextlib.suppress(Problem):  # the run has told what is wrong with a declaration
        for one in declared(config):
            names.update(one.names())
            for part in one.parts():
                names |= {part.data_type, part.struct}
    return [KernelInfo.on(bench, names) for bench in config.stash[LAB].benches]


class RuleReporter:
    """A plugin that has each rule's result on each kernel, in the process that reports.

    Args:
        config: pytest's.
        names: tells the specs of the run's kernels by name; asked at the end.
        wanted: files to write, by option.
    """

    def __init__(
        self,
        config: pytest.Config,
        names: Callable[[], Mapping[str, str]],
        wanted: Mapping[str, Path],
    ) -> None:
        self._config = config
        self._names = names
        self._wanted = wanted
        self._began = time.time()
        self._verdicts = Verdicts()
        self._folders: list[Path] = []
        self._made: list[str] = []
        self._kernels: dict[str, KernelInfo] = {}
        self._ran = False
        self._failures: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather results; with xdist, those of all workers."""
        for result in results(report):
            self._ran = True
            self._folders.append(Path(result.path).parent)
            self._verdicts.add(replace(result, reproducers=written(report)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take a worker's notes; one that crashed has left none."""
        found = getattr(node, "workeroutput", {}).get(NOTES)
        if found:
            self._folders += map(Path, found["folders"])
            self._made += found["made"]
            for kernel in found["kernels"]:
                self._kernels[kernel["name"]] = KernelInfo(**kernel)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Put the results in order, and write the files, however the run went."""
        catalogues = self._catalogues()
        slugs = [slug for catalogue in catalogues for slug in catalogue.slugs]
        slugs += dict.fromkeys([*self._config.stash.get(_MADE, []), *self._made])
        if not (self._ran or self._wanted) or self._config.option.collectonly:
            return
        names = self._names()
        self._verdicts.complete(names, slugs)
        self._kernels |= {info.name: info for info in _kernels(self._config)}
        if not self._wanted:
            return
        kernels = {name: KernelInfo(name, spec) for name, spec in names.items()} | self._kernels
        kernels.setdefault(NO_KERNEL, KernelInfo(NO_KERNEL, "", source="tests that use no kernel"))
        stopped = session.shouldfail or session.shouldstop
        if not stopped and exitstatus == pytest.ExitCode.INTERRUPTED:
            stopped = "interrupted"
        run = Run(self._began, time.time() - self._began, int(exitstatus), str(stopped or ""))
        data = gather(self._verdicts, catalogues, kernels, run)
        for option, path in self._wanted.items():
            try:
                write_whole(path, _RENDERERS[option](data))
            except OSError as error:
                self._failures.append(f"{option} {path} could not be written: {error.strerror}")
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the rules' results."""
        if self._ran:
            terminal.summary(terminalreporter, self._verdicts, self._kernels)
        for failure in self._failures:
            terminalreporter.line(failure, red=True)

    def _catalogues(self) -> list[Catalogue]:
        folders = dict.fromkeys((*self._config.stash.get(_FOLDERS, []), *self._folders))
        found: list[Catalogue] = []
        for folder in sorted(folders):
            # what is wrong with one, the tests beside it have told
            with contextlib.suppress(Problem):
                found += filter(None, [beside(folder)])
        return found


def pytest_configure(config: pytest.Config) -> None:
    """Register what reports."""
    if is_worker(config):
        return
    try:
        wanted = report_files(config)
    except Problem as problem:
        raise pytest.UsageError(str(problem)) from None
    reporter = RuleReporter(config, functools.partial(names, config), wanted)
    config.pluginmanager.register(reporter, "iommufd-rules")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the rules that --rule names; note whose rules there are."""
    try:
        collect(config, items)
    except Problem as problem:
        if not is_worker(config):
            raise pytest.UsageError(str(problem)) from None
    patterns = config.option.iommufd_rule
    if not patterns:
        return
    chosen = [item for item in items if matches(_names(item), patterns)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def _names(item: pytest.Item) -> tuple[str, ...]:
    """Return all names of a test's rule, none of a test without one."""
    slug = rule_of(item)
    rule = rule_in(item.path.parent, slug) if slug else None
    return (slug, *rule.aliases) if rule else (slug,)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the run that a worker works for what only the worker knows."""
    if is_worker(session.config):
        session.config.workeroutput[NOTES] = notes(session.config)  # type: ignore[attr-defined]
