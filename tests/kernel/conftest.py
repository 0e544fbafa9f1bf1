# SPDX-License-Identifier: GPL-2.0-only
"""A PATH that holds nothing but fake tools, so that nothing real is built, fetched or installed."""

from __future__ import annotations

import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from asis_files import add_module
from kernel_helpers import Recorder, make_tree

from pytest_iommufd.host import tools
from pytest_iommufd.kernel.build import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable

_TOOLS = ("make", "gcc", "apt-get", "apt-cache", "dpkg-deb", "tar")
_PRESENT = ("ld", "flex", "bison", "bc", "xz")


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of fake tools; remove one to have it missing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    source = Path(__file__).with_name("fake_tool.py").read_text("utf-8")
    for name in (*_TOOLS, *_PRESENT):
        tool = folder / name
        tool.write_text(f"#!{sys.executable} -IS\n{source}", "utf-8")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    for name in ("git", "patch"):
        if real := shutil.which(name):
            (folder / name).symlink_to(real)
    monkeypatch.setenv("PATH", str(folder))
    add_module(tmp_path / "modules", "tree")
    add_module(tmp_path / "modules", "iommufd", "tree")
    monkeypatch.setenv("FAKE_MODULES", str(tmp_path / "modules"))
    monkeypatch.setenv("FAKE_RECORD", str(tmp_path / "calls"))
    monkeypatch.setenv("FAKE_OFFERS", "6.12=6.12.1-1 6.1=6.1.9-1")
    monkeypatch.setenv(tools.NO_INSTALL, "1")
    for variable in toolchain.VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[str], list[str]]:
    """The command lines a fake tool was called with."""

    def read(tool: str) -> list[str]:
        record = tmp_path / "calls"
        lines = record.read_text("utf-8").splitlines() if record.exists() else []
        return [line for line in lines if line.split()[0] == tool]

    return read


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that does not exist yet, and is the default one."""
    root = tmp_path / "cache"
    monkeypatch.setenv("PYTEST_IOMMUFD_CACHE", str(root))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree as far as the fakes look."""
    return make_tree(tmp_path / "linux")


@pytest.fixture(autouse=True)
def no_description(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake trees have no headers to describe."""

    def describe(tree: Path, destination: Path, *, build: Path | None) -> None:
        del tree, build
        destination.write_text("{}")

    monkeypatch.setattr("pytest_iommufd.uapi.describe.describe", describe)


@pytest.fixture
def progress() -> Recorder:
    return Recorder()
