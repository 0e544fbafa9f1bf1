# SPDX-License-Identifier: GPL-2.0-only
"""The kernels of a run: made at its beginning, and a parameter of each test that uses one."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.hwpt_types.registry import declared
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.kernel.spec import DEFAULT_KERNEL, SSH, join_modules, parse
from pytest_iommufd.lab import LAB, Lab, Settings
from pytest_iommufd.machine import Verdict
from pytest_iommufd.machine.remote import Care
from pytest_iommufd.plugin.demand import SPEC, names_suites

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_iommufd.plugin.sharing import Sharing

_CARE = "--iommufd-reboot-deadline, --iommufd-power-cycle and --iommufd-console"


def pytest_configure(config: pytest.Config) -> None:
    """Make the lab."""
    option = config.option
    _join_modules(option)
    given = {
        "acceleration": option.iommufd_accel,
        "memory": option.iommufd_memory,
        "boot_seconds": option.iommufd_boot_deadline,
        "call_seconds": option.iommufd_call_deadline,
        "iommu": option.iommufd_iommu,
        "pci_devices": tuple(option.iommufd_vfio),
        "configs": tuple(map(Path, option.iommufd_config or ())),
    }
    care = {
        "reboot_seconds": option.iommufd_reboot_deadline,
        "power_cycle": option.iommufd_power_cycle,
        "console": option.iommufd_console,
    }
    care = {name: value for name, value in care.items() if value}
    elsewhere = any(spec.startswith(SSH) for spec in _specs(config))
    if care and not elsewhere:
        raise pytest.UsageError(f"{_CARE} are for machines elsewhere: --kernel ssh:HOST")
    given["care"] = Care(**care)
    settings = Settings(default_root(), **{name: value for name, value in given.items() if value})
    if settings.pci_devices and not elsewhere and "running" not in _specs(config):
        raise pytest.UsageError(
            "--iommufd-vfio names devices of a machine whose own kernel is tested: "
            "--kernel running, --kernel ssh:HOST"
        )
    how = config.getoption("dist", "no")
    if elsewhere and how not in {"no", "load"}:
        raise pytest.UsageError(
            f"--dist {how} has several workers test one machine at once\n"
            "expected: --dist load, which -n has by itself: one worker then tests each machine"
        )
    config.stash[LAB] = Lab(settings, Silent() if is_worker(config) else None)
    config.add_cleanup(config.stash[LAB].close)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Sharing | None:
    """Have pytest-xdist give all tests of a machine elsewhere to one worker."""
    found = [name for name, spec in names(config).items() if spec.startswith(SSH)]
    if not found:
        return None
    from pytest_iommufd.plugin import sharing  # noqa: PLC0415 - for runs with workers

    return sharing.Sharing(config, log, found)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the kernels that were asked for, before anything else and with progress shown.

    What is declared is looked at next, with their headers.
    """
    config = session.config
    if is_worker(config) or not (config.option.iommufd_kernel or names_suites(config)):
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
    benches = list(config.stash[LAB].benches)
    lines = [f"iommufd: {bench.describe()}" for bench in benches]
    hosts = [bench.kernel.host for bench in benches if bench.kernel.host]
    if hosts and config.getoption("dist", "no") != "no":
        lines.append(f"iommufd: one worker for all tests of each of: {', '.join(hosts)}")
    return lines


def spread(metafunc: pytest.Metafunc) -> None:
    """Run a test on each kernel; the first boots while pytest collects.

    A machine elsewhere is left alone until a test needs it: it may be another worker's.
    """
    config = metafunc.config
    specs = _specs(config)
    metafunc.parametrize(
        SPEC, specs, ids=[name_of(spec) for spec in specs], indirect=True, scope="session"
    )
    if not (config.option.collectonly or specs[0].startswith(SSH)):
        # an error shows again, and better, when the first test needs the machine
        with contextlib.suppress(Problem, Verdict):
            config.stash[LAB].bench(specs[0]).machine.start()


def _join_modules(option: argparse.Namespace) -> None:
    """Put the folders of modules into the kernels' specs, which is all that others look at."""
    if not option.iommufd_modules:
        return
    try:
        option.iommufd_kernel = join_modules(option.iommufd_kernel or [], option.iommufd_modules)
    except Problem as problem:
        raise pytest.UsageError(f"--iommufd-modules: {problem}") from None
    option.iommufd_modules = []  # for workers, too, which get the options as they are now


def _specs(config: pytest.Config) -> list[str]:
    specs = config.option.iommufd_kernel or [DEFAULT_KERNEL]
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


@contextlib.contextmanager
def _shown(config: pytest.Config) -> Iterator[None]:
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        yield


def spec_of(item: pytest.Item) -> str:
    """Return the spec of the kernel that a test uses, "" when it uses none."""
    callspec = getattr(item, "callspec", None)
    return str(callspec.params.get(SPEC, "")) if callspec else ""
