# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from agent_wire import Wire

from pytest_iommufd.agent import build
from pytest_iommufd.machine.local import LocalMachine
from pytest_iommufd.uapi import Uapi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_iommufd.machine import Process


@pytest.fixture(scope="session")
def sanitized_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent that ends at the first byte it should not touch, and says which."""
    flags = (*build.FLAGS, "-Wall", "-Wextra", "-Werror", "-O1", "-g")
    return build.compiled(
        Uapi.shipped()[0].layout_source(),
        tmp_path_factory.mktemp("sanitized"),
        flags=(*flags, "-fsanitize=address,undefined", "-fno-omit-frame-pointer"),
    )


@pytest.fixture
def wire(sanitized_agent: Path) -> Iterator[Wire]:
    """A sanitized agent; it must end well."""
    with Wire(sanitized_agent) as made:
        yield made


@pytest.fixture(scope="module")
def local(agent_program: Path) -> Iterator[LocalMachine]:
    """This machine's kernel, on which no call here does anything a user may not do."""
    made = LocalMachine(agent_program)
    yield made
    made.stop()


@pytest.fixture
def task(local: LocalMachine) -> Iterator[Process]:
    """A process on this machine's kernel."""
    made = local.process()
    yield made
    if local.running:
        made.end()
