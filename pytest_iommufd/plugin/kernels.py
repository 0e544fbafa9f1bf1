# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of a run: made at its beginning, and a parameter of each test that uses one."""

from __future__ import annotations

import contextlib
import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.hwpt_types import shipped
from pytest_iommufd.hwpt_types.registry import declared
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL, parse
from pytest_iommufd.lab import LAB, Lab, Settings
from pytest_iommufd.machine import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure(config: pytest.Config) -> None:
    """Make the lab."""
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
    config.stash[LAB] = Lab(settings, Silent() if is_worker(config) else None)
    config.add_cleanup(config.stash[LAB].close)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the kernels that were asked for, before anything else and with progress shown.

    What is declared is looked at next, with their headers.
    """
    config = session.config
    if is_worker(config) or not _is_wanted(config):
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
        "kernel", specs, ids=[name_of(spec) for spec in specs], indirect=True, scope="session"
    )
    if not config.option.collectonly:
        # an error shows again, and better, when the first test needs the machine
        with contextlib.suppress(Problem, Verdict):
            config.stash[LAB].bench(specs[0]).machine.start()


def _specs(config: pytest.Config) -> list[str]:
    specs = config.getoption("--kernel") or [DEFAULT_KERNEL]
    return list(dict.fromkeys(specs))


def names(config: pytest.Config) -> dict[str, str]:
    """Return the specs by their kernels' names."""
    return {name_of(spec): spec for spec in _specs(config)}


@functools.cache  # asked for each report; a tree's name takes looks at the disk
def name_of(spec: str) -> str:
    """Return the name of a spec's kernel, as in test ids."""
    try:
        return parse(spec).name
    except Problem as problem:
        raise pytest.UsageError(str(problem)) from None


def is_worker(config: pytest.Config) -> bool:
    """Tell whether this process runs tests for another one that reports (pytest-xdist)."""
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


def spec_of(item: pytest.Item) -> str:
    """Return the spec of the kernel that a test uses, "" when it uses none."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get("kernel", "")) if callspec else ""
