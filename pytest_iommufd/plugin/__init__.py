# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: options, kernels as parameters, failures. What they do is elsewhere."""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import hookspec
from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.hwpt_types import shipped
from pytest_iommufd.hwpt_types.registry import declared
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL, parse
from pytest_iommufd.lab import LAB, Lab, Settings
from pytest_iommufd.machine import BootFailed, Verdict
from pytest_iommufd.machine.iommu import IOMMUS, NONE
from pytest_iommufd.machine.vm import BOOT_SECONDS, CALL_SECONDS
from pytest_iommufd.plugin.results import NOTES, RuleReporter, collect, notes, report_files
from pytest_iommufd.plugin.splats import SplatWatch
from pytest_iommufd.rules.calls import CALLS_KEY
from pytest_iommufd.rules.catalogue import RuleError
from pytest_iommufd.rules.judging import LAST_CALLS, judge, status
from pytest_iommufd.rules.marker import MARKER, rule_of
from pytest_iommufd.rules.verdicts import NO_KERNEL
from pytest_iommufd.uapi import UapiError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_PACKAGE = Path(__file__).parent

pytest_plugins = [
    "pytest_iommufd.fixtures.machine",
    "pytest_iommufd.fixtures.context",
    "pytest_iommufd.fixtures.memory",
    "pytest_iommufd.fixtures.dmabuf",
    "pytest_iommufd.fixtures.device",
    "pytest_iommufd.fixtures.hwpt",
    "pytest_iommufd.fixtures.nesting",
    "pytest_iommufd.fixtures.vfio",
    "pytest_iommufd.fixtures.rules",
    "pytest_iommufd.fixtures.injection",
    "pytest_iommufd.plugin.fail_nth",
    "pytest_iommufd.plugin.coverage",
    "pytest_iommufd.plugin.reproducers",
]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspec)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("iommufd", "Linux iommufd")
    group.addoption(
        "--kernel",
        action="append",
        metavar="SPEC",
        help="kernel under test: X.Y or a source tree, each with +SERIES of patches, an image, or "
        "'running' (this machine's own: iommufd_test is dangerous); may be repeated; "
        f"default {DEFAULT_KERNEL}",
    )
    group.addoption(
        "--rule",
        action="append",
        metavar="PATTERN",
        help="run only tests of rules whose name matches, such as 'hwpt_alloc.flags.*'; "
        "may be repeated",
    )
    group.addoption(
        "--rules-json",
        metavar="FILE",
        help="write what each rule gave on each kernel to a JSON file",
    )
    group.addoption(
        "--rules-html",
        metavar="FILE",
        help="write it to one HTML page that needs nothing else",
    )
    group.addoption(
        "--iommufd-accel",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="how guests run; auto: KVM if a try shows that it works",
    )
    group.addoption(
        "--iommufd-memory",
        type=int,
        default=1024,
        metavar="MIB",
        help="memory of a guest (default %(default)s)",
    )
    group.addoption(
        "--iommufd-iommu",
        choices=(NONE, *IOMMUS),
        default=NONE,
        help="an IOMMU that guests have, with PCI devices bound to vfio-pci (default %(default)s)",
    )
    group.addoption(
        "--iommufd-vfio",
        action="append",
        metavar="ADDRESS",
        default=[],
        help="with --kernel running: a PCI device bound to vfio-pci that tests may take, such as "
        "0000:01:00.0; may be repeated",
    )
    group.addoption(
        "--iommufd-boot-deadline",
        type=float,
        default=BOOT_SECONDS,
        metavar="SECONDS",
        help="how long a guest may take until it serves (default %(default)s)",
    )
    group.addoption(
        "--iommufd-call-deadline",
        type=float,
        default=CALL_SECONDS,
        metavar="SECONDS",
        help="how long a call may take (default %(default)s)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register markers and make the lab."""
    config.addinivalue_line("markers", f"{MARKER}(slug): the rule that a test is of")
    config.addinivalue_line(
        "markers",
        "expect_splat(pattern): the test must make the kernel print a warning or report whose "
        "title matches the pattern",
    )
    settings = Settings(
        cache=default_root(),
        acceleration=config.getoption("--iommufd-accel"),
        memory=config.getoption("--iommufd-memory"),
        boot_seconds=config.getoption("--iommufd-boot-deadline"),
        call_seconds=config.getoption("--iommufd-call-deadline"),
        iommu=config.getoption("--iommufd-iommu"),
        pci_devices=tuple(config.getoption("--iommufd-vfio")),
    )
    config.pluginmanager.register(shipped, "iommufd-hwpt-types")
    if settings.pci_devices and "running" not in _specs(config):
        raise pytest.UsageError("--iommufd-vfio names devices of this machine: --kernel running")
    config.stash[LAB] = Lab(settings, Silent() if _is_worker(config) else None)
    config.add_cleanup(config.stash[LAB].close)
    if not _is_worker(config):
        try:
            files = report_files(config)
        except Problem as problem:
            raise pytest.UsageError(str(problem)) from None
        names = functools.partial(_names, config)
        config.pluginmanager.register(RuleReporter(config, names, files), "iommufd-rules")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the kernels that were asked for, before anything else and with progress shown.

    What is declared is looked at next, with their headers.
    """
    config = session.config
    if _is_worker(config) or not _is_wanted(config):
        return
    lab = config.stash[LAB]
    try:
        with _shown(config):
            for spec in () if config.option.collectonly else _specs(config):
                lab.bench(spec)
        declared(config)
    except Problem as problem:
        raise pytest.UsageError(str(problem)) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the kernels: release, acceleration, agent, source."""
    return [f"iommufd: {bench.describe()}" for bench in config.stash[LAB].benches]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses the kernel on each kernel; the first boots while pytest collects."""
    if "kernel" not in metafunc.fixturenames:
        return
    config = metafunc.config
    specs = _specs(config)
    metafunc.parametrize(
        "kernel", specs, ids=[_name(spec) for spec in specs], indirect=True, scope="session"
    )
    if not config.option.collectonly:
        # an error shows again, and better, when the first test needs the machine
        with contextlib.suppress(Problem, Verdict):
            config.stash[LAB].bench(specs[0]).machine.start()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the rules that --rule names; note whose rules there are."""
    try:
        collect(config, items)
    except Problem as problem:
        if not _is_worker(config):
            raise pytest.UsageError(str(problem)) from None
    patterns = config.getoption("--rule")
    if not patterns:
        return
    chosen = [
        item
        for item in items
        if any(fnmatch.fnmatchcase(rule_of(item), pattern) for pattern in patterns)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test during which the kernel log got a splat that it does not expect."""
    with SplatWatch.of(item, must_come=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Likewise; one that it expects must come in this phase."""
    with SplatWatch.of(item, must_come=True):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Likewise."""
    with SplatWatch.of(item, must_come=False):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failure without our own frames, with the calls; give a rule its result."""
    error = call.excinfo
    if error and not error.errisinstance(pytest.skip.Exception):
        error.traceback = (
            error.traceback.filter(
                lambda entry: (
                    _PACKAGE not in Path(entry.path).parents
                    or not {"suites", "fixtures"}.isdisjoint(Path(entry.path).parts)
                )
            )
            or error.traceback
        )
    report = yield
    spec = _spec_of(item)
    kernel = _name(spec) if spec else NO_KERNEL
    stops = False
    if report.failed:
        # a wrong name or value in a test is that test's alone
        stops = bool(
            error
            and error.errisinstance((BootFailed, Problem))
            and not error.errisinstance((UapiError, RuleError))
        )
        if error and error.errisinstance((Verdict, Problem)) and not error.errisinstance(UapiError):
            report.longrepr = str(error.value)
        calls = item.stash.get(CALLS_KEY, [])
        if calls:
            report.sections.append(("iommufd calls", "\n".join(map(str, calls[-LAST_CALLS:]))))
    if rule_of(item) and not stops:
        judge(item, report, error, kernel, spec)
    if error and stops:
        item.session.shouldfail = (
            f"kernel {kernel} cannot be tested: {str(error.value).splitlines()[0]}"
        )
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count a known defect's test once, whatever parts of it failed or did not."""
    return status(report) if isinstance(report, pytest.TestReport) else None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the run that a worker works for what only the worker knows."""
    if _is_worker(session.config):
        session.config.workeroutput[NOTES] = notes(session.config)  # type: ignore[attr-defined]


def _specs(config: pytest.Config) -> list[str]:
    specs = config.getoption("--kernel") or [DEFAULT_KERNEL]
    return list(dict.fromkeys(specs))


def _names(config: pytest.Config) -> dict[str, str]:
    """Return the specs by their kernels' names."""
    return {_name(spec): spec for spec in _specs(config)}


@functools.cache  # asked for each report; a tree's name takes looks at the disk
def _name(spec: str) -> str:
    try:
        return parse(spec).name
    except Problem as problem:
        raise pytest.UsageError(str(problem)) from None


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _is_wanted(config: pytest.Config) -> bool:
    """Whether kernels were asked for: by name, or by naming suites of ours."""
    if config.getoption("--kernel"):
        return True
    # by name: it is a folder of this package only once it is installed
    suites = importlib.import_module("pytest_iommufd.suites")
    places = [Path(place) for place in suites.__path__]
    for arg in config.args:
        path = (config.invocation_params.dir / arg.split("::")[0]).resolve()
        if arg.startswith(suites.__name__) or any(
            place == path or place in path.parents for place in places
        ):
            return True
    return False


@contextlib.contextmanager
def _shown(config: pytest.Config) -> Iterator[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


def _spec_of(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("kernel", "")) if callspec else ""
