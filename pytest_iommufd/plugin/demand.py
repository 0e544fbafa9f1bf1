# SPDX-License-Identifier: GPL-2.0-only
"""Loads the rest of the plugin for those who ask for it: by an option, a suite, or a fixture."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.plugin import options

if TYPE_CHECKING:
    from collections.abc import Generator

_CONCERNS = (
    "kernels",
    "results",
    "remarks",
    "failures",
    "lacking",
    "together",
    "splats",
    "fail_nth",
    "again",
    "coverage",
    "reproducers",
)
SPEC = "_kernel_spec"
"""The fixture, of a name that nobody else has, whose parameters are the kernels."""
_FIXTURES = "pytest_iommufd.fixtures"
_SUITES = "pytest_iommufd.suites"
_MARKERS = (
    "iommufd_rule(slug): the rule that a test is of",
    "expect_splat(pattern): the test must make the kernel print a report of such a title",
    "fail_nth: run again with each point of each ioctl failing in turn",
    "no_fail_nth(reason): what --fail-nth does not run with failures, and why",
)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and load what is asked for by name; or wait for a test to ask."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if options.is_used(config) or config.option.showfixtures or names_suites(config):
        load(config)
    else:
        config.pluginmanager.register(_Demand(config), "iommufd-demand")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses a kernel on each; here, since the order of plugins is that of names in ids."""
    if SPEC in metafunc.fixturenames:
        from pytest_iommufd.plugin import kernels  # noqa: PLC0415 - loaded, since its fixture is

        kernels.spread(metafunc)


def names_suites(config: pytest.Config) -> bool:
    """Tell whether the run was given suites of ours, as files or as a package."""
    places = [Path(place) for place in _places(_SUITES)]
    for arg in config.args:
        path = (config.invocation_params.dir / arg.split("::")[0]).resolve()
        if arg.startswith(_SUITES) or any(
            place == path or place in path.parents for place in places
        ):
            return True
    return False


def load(config: pytest.Config, *, yielding: bool = False) -> None:
    """Register the concerns and the fixtures.

    Args:
        config: pytest's.
        yielding: whether fixtures of other plugins stay when they have names of ours.
    """
    taken = _taken(config) if yielding else set()
    for name in _CONCERNS:
        module = importlib.import_module(f"pytest_iommufd.plugin.{name}")
        config.pluginmanager.register(module, f"iommufd-{name}")
    fixtures = types.ModuleType(_FIXTURES)
    for path in _files():
        module = importlib.import_module(f"{_FIXTURES}.{path.stem}")
        for name, value in vars(module).items():
            if name not in taken and _is_fixture(value):
                setattr(fixtures, name, value)
    config.pluginmanager.register(fixtures, "iommufd-fixtures")


class _Demand:
    """Waits for a test that asks for a fixture of ours that nobody else has.

    A worker's results of such tests are waited for, too.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makeitem(
        self, collector: pytest.Module | pytest.Class, name: str, obj: object
    ) -> Generator[None, object, object]:
        """Make a test again once what it asks for is there."""
        try:
            made = yield
        except pytest.fail.Exception as failure:
            # a fixture that the test gives parameters to
            found = re.search(r"uses no (?:fixture|argument) '(\w+)'", str(failure))
            if not found or found[1] not in _names():
                raise
        else:
            functions = made if isinstance(made, list) else ()
            if not any(_lacks(each) & _names() for each in functions if _lacks(each)):
                return made
        self._load()
        return collector.ihook.pytest_pycollect_makeitem(collector=collector, name=name, obj=obj)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Have a worker's results counted."""
        if any(str(key).startswith("iommufd_") for key, _ in report.user_properties):
            self._load()
            manager = self._config.pluginmanager
            manager.getplugin("iommufd-rules").pytest_runtest_logreport(report)

    def _load(self) -> None:
        self._config.pluginmanager.unregister(self)
        load(self._config, yielding=True)


def _lacks(item: pytest.Function) -> set[str]:
    """Return the names of the fixtures that a test uses and that nobody has."""
    return set(item.fixturenames) - set(item._fixtureinfo.name2fixturedefs) - {"request"}  # noqa: SLF001 - pytest tells it nowhere else


@functools.cache
def _names() -> frozenset[str]:
    """Return the names of our fixtures without importing what they are made of."""
    text = "".join(path.read_text("utf-8") for path in _files())
    return frozenset(re.findall(r"^def (\w+)\(", text, re.MULTILINE))


def _taken(config: pytest.Config) -> set[str]:
    """Return those of the names that another plugin has; a conftest.py's go first anyway."""
    plugins = [
        plugin
        for plugin in config.pluginmanager.get_plugins()
        if Path(getattr(plugin, "__file__", None) or "").name != "conftest.py"
    ]
    return {
        name for plugin in plugins for name in _names() if _is_fixture(getattr(plugin, name, None))
    }


def _is_fixture(value: object) -> bool:
    # pytest 8.4 and later; before
    return type(value).__name__ == "FixtureFunctionDefinition" or hasattr(
        value, "_pytestfixturefunction"
    )


def _files() -> list[Path]:
    return sorted(path for place in _places(_FIXTURES) for path in Path(place).glob("[!_]*.py"))


def _places(package: str) -> list[str]:
    found = importlib.util.find_spec(package)
    return list(found.submodule_search_locations or ()) if found else []
