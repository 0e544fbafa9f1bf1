# SPDX-License-Identifier: GPL-2.0-only
"""What several of the folders need: the agent, compiled as the plugin compiles it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.agent import build
from pytest_iommufd.kernel.cache import default_root
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def cache_root() -> Path:
    """The cache that the plugin uses in this run: the kernels and agents in it are used, too."""
    return default_root()


@pytest.fixture(scope="session")
def agent_program(cache_root: Path) -> Path:
    """The agent for the newest kernel we ship a description of."""
    return build.compiled(Uapi.shipped()[0].layout_source(), cache_root)
