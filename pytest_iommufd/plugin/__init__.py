# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin; each concern has a module of its own.

Every run of pytest where this is installed imports this module, `options` and `demand`, and nothing
else of the package until it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd import hookspec

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytest_iommufd.plugin.options", "pytest_iommufd.plugin.demand"]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks that others implement."""
    pluginmanager.add_hookspecs(hookspec)
