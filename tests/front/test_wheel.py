# SPDX-License-Identifier: GPL-2.0-only
"""The wheel has all that a checkout has, and works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel

ROOT = Path(__file__).resolve().parents[2]
# Where each folder of the checkout is installed.
PLACES = {
    "pytest_iommufd": "pytest_iommufd",
    "fixtures": "pytest_iommufd/fixtures",
    "suites": "pytest_iommufd/suites",
}
_LEFT_BEHIND = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
_INNER = "inner"
# A few of the suite's tests: what they find is not the point here.
_FEW = ("-p", "no:cacheprovider", "-k", "size")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build leaves things behind. It has one suite more."""
    copy = tmp_path_factory.mktemp("source")
    for folder in PLACES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=_LEFT_BEHIND)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    new = copy / "suites" / "new_suite" / _INNER
    new.mkdir(parents=True)
    for folder in (new.parent, new):
        (folder / "__init__.py").touch()
    (new / "catalogue.toml").touch()
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of it."""
    out = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a virtual environment that has the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("venv")
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = ("-m", "pip", "--python", folder / "bin" / "python")
    _run(sys.executable, *pip, "install", "-q", "--no-compile", wheel)
    return folder / "bin"


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON", "TOX_"))}
    if cache := os.environ.get("PYTEST_IOMMUFD_CACHE"):
        kept["PYTEST_IOMMUFD_CACHE"] = cache
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_every_file_of_the_packages_is_in_it(source: Path, wheel: Path) -> None:
    """New suites and their data are packaged without being listed anywhere."""
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        f"{place}/{path.relative_to(source / folder)}"
        for folder, place in PLACES.items()
        for path in (source / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert f"pytest_iommufd/suites/new_suite/{_INNER}/catalogue.toml" in wanted
    assert sorted(wanted - held) == []


def test_nothing_else_is_in_it(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pytest_iommufd"}


def test_suites_run_far_from_the_checkout(kernel: Kernel, installed: Path, tmp_path: Path) -> None:
    out = _run(
        *(installed / "pytest", "--kernel", kernel.spec, *_FEW),
        *("--pyargs", "pytest_iommufd.suites.hwpt_alloc"),
        cwd=tmp_path,
    )
    assert "iommufd rules" in out
    assert f"{kernel.name}: " in out


def test_command_is_installed(installed: Path, tmp_path: Path) -> None:
    assert "doctor" in _run(installed / "pytest-iommufd", "--help", cwd=tmp_path)


def test_suites_of_a_checkout_run_with_an_installed_plugin(
    kernel: Kernel, installed: Path, source: Path
) -> None:
    """As after `pip install .`, where the checkout shadows what is installed."""
    out = _run(
        *(installed / "pytest", "--kernel", kernel.spec, *_FEW),
        *("-n", "1", "suites/hwpt_alloc"),
        cwd=source,
    )
    assert f"{kernel.name}: " in out
