# SPDX-License-Identifier: GPL-2.0-only
"""What several of the folders need: the cache, the agent, a source tree that may be edited."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import editing
import pytest

from pytest_iommufd.agent import build
from pytest_iommufd.kernel.cache.store import default_root
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from watching import EditedTree

# What a shell without job control starts in the background ignores Ctrl-C, and all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cache_root() -> Path:
    """The cache that the plugin uses in this run: the kernels and agents in it are used, too."""
    return default_root()


@pytest.fixture(scope="session")
def agent_program(cache_root: Path) -> Path:
    """The agent for the newest kernel we ship a description of."""
    return build.compiled(Uapi.shipped()[0].layout_source(), cache_root)


@pytest.fixture(scope="session")
def edited_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditedTree]:
    """The source of Linux 7.3 as a tree whose kernel is built."""
    folder = tmp_path_factory.mktemp("edited")
    yield editing.make(folder)
    shutil.rmtree(folder)
