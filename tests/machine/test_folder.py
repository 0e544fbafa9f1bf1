# SPDX-License-Identifier: GPL-2.0-only
"""The folder of a guest's console and sockets: private, and swept up after who was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_iommufd.machine import vm

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_folders_of_killed_runs_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(vm, "_LONGEST_FOLDER", 500)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    for name in (f"{dead}-left", f"{os.getpid()}-ours", "not-a-pid"):
        (tmp_path / f"{vm._PREFIX}{name}").mkdir()
    (tmp_path / f"{vm._PREFIX}{dead}-left" / "console").touch()
    made = vm._private_folder()
    assert made.stat().st_mode & 0o777 == 0o700
    left = {folder.name.removeprefix(vm._PREFIX) for folder in tmp_path.iterdir()}
    assert left == {f"{os.getpid()}-ours", "not-a-pid", made.name.removeprefix(vm._PREFIX)}


def test_a_long_temporary_folder_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(vm.tempfile, "gettempdir", lambda: str(deep))
    made = vm._private_folder()
    assert len(str(made / "agent")) < 108
    assert not list(deep.iterdir())
    made.rmdir()
