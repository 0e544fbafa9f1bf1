# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.spec import parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "bzImage-6.12+x y"
    path.write_bytes(b"\0" * 0x202 + b"HdrS" + b"\0" * 100)
    return path


def test_running() -> None:
    kernel = resolve("running")
    assert kernel.running
    assert kernel.name == "running"
    assert kernel.release == os.uname().release
    assert kernel.modules == ()


def test_a_machine_elsewhere() -> None:
    kernel = resolve("ssh:root@lab-1.example")
    assert kernel.running
    assert (kernel.host, kernel.name) == ("root@lab-1.example", "ssh-root_lab-1.example")
    assert (kernel.image, kernel.release) == (None, "")
    assert "root@lab-1.example" in kernel.source
    assert resolve("ssh:fe80::1%eth0").host == "fe80::1%eth0"


@pytest.mark.parametrize(
    "text", ["ssh:", "ssh:@lab", "ssh:root@", "ssh:-oProxyCommand=x", "ssh:-l@lab", "ssh:a b"]
)
def test_no_machine(text: str) -> None:
    with pytest.raises(Problem, match="not a machine that ssh can reach") as caught:
        parse(text)
    assert "ssh:USER@HOST" in caught.value.expected


def test_the_kernel_that_a_machine_runs_takes_no_series() -> None:
    with pytest.raises(Problem, match="series cannot be applied to the kernel that a machine"):
        parse("ssh:lab+series")


def test_image(image: Path) -> None:
    kernel = resolve(str(image))
    assert not kernel.running
    assert kernel.image == image
    assert kernel.name == "bzImage-6.12+x_y"
    assert (kernel.uapi, kernel.log, kernel.release) == (None, None, "")
    assert ready(str(image)) == kernel


def test_version() -> None:
    spec = parse("6.12")
    assert (spec.kind, spec.version, spec.name) == ("package", "6.12", "6.12")
    release = parse("6.12.118")
    assert (release.kind, release.version, release.name) == ("package", "6.12.118", "6.12.118")


def test_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    spec = parse("./linux")
    assert (spec.kind, spec.path, spec.name) == ("tree", tree, "linux")


def test_tree_without_slash(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree.parent)
    assert parse("linux").path == tree


@pytest.mark.parametrize("text", ["", "six", "6", "6.12.1.2", "6.12-rc1", "v6.12"])
def test_no_spec(text: str) -> None:
    with pytest.raises(Problem, match="not a kernel spec") as caught:
        parse(text)
    assert "X.Y" in caught.value.expected


@pytest.mark.parametrize("text", ["/no/such", "./none", "~/none/such", "../x+y"])
def test_no_such_path(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(Problem, match="no such image or tree"):
        parse(text)


@pytest.mark.parametrize("content", [b"", b"\x7fELF" + b"\0" * 1000])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vmlinux"
    path.write_bytes(content)
    with pytest.raises(Problem, match="not an x86 kernel image"):
        parse(str(path))


def test_no_tree(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="has no Kconfig and no Makefile"):
        parse(str(tmp_path))


def test_importing_costs_nothing_that_a_cached_kernel_does_not_need() -> None:
    code = (
        "import sys, pytest_iommufd.kernel\n"
        "print([m for m in ('rich', 'debian', 'filelock') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
