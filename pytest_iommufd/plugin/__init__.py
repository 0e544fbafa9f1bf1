# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin; each concern has a module of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd import hookspec

if TYPE_CHECKING:
    import pytest

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
    "pytest_iommufd.plugin.kernels",
    "pytest_iommufd.plugin.results",
    "pytest_iommufd.plugin.failures",
    "pytest_iommufd.plugin.splats",
    "pytest_iommufd.plugin.fail_nth",
    "pytest_iommufd.plugin.coverage",
    "pytest_iommufd.plugin.reproducers",
    "pytest_iommufd.plugin.options",
]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspec)
