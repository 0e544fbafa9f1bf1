# SPDX-License-Identifier: GPL-2.0-only
"""What the doctor says of machines that lack something."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.commands import doctor
from pytest_iommufd.commands import main as cli
from pytest_iommufd.commands.doctor import State
from pytest_iommufd.host import resources, tools
from pytest_iommufd.machine import accel

if TYPE_CHECKING:
    from pathlib import Path

USER = 1000


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with no program, and a cache folder that does not exist yet."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYTEST_IOMMUFD_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def programs(nothing: Path) -> Path:
    """As well, with apt-get."""
    (nothing / "apt-get").symlink_to("/bin/true")
    return nothing


@pytest.mark.usefixtures("nothing")
def test_names_all_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    said = {line[9:23].strip(): line for line in out.splitlines() if line[:7] == "missing"}
    assert set(said) == {"compiler", "kernel build", "unpacking", "QEMU"}
    for topic, names in {
        "compiler": ("gcc", "static libc"),
        "kernel build": ("ld", "make", "flex", "bison", "bc", "libelf"),
        "unpacking": ("dpkg-deb", "tar", "xz"),
        "QEMU": ("qemu-system-x86_64",),
    }.items():
        assert "no " + ", no ".join(names) in said[topic]
    assert "install what Debian calls make flex bison" in out.replace("binutils ", "")
    assert "no apt-get and no apt-cache" in out


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("lists", "begins"),
    [(("x_Packages",), ""), ((), "sudo apt-get update && ")],
    ids=["lists", "no lists"],
)
def test_one_command_mends_all_tools(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lists: tuple[str, ...],
    begins: str,
) -> None:
    for name in lists:
        (tmp_path / name).touch()
    monkeypatch.setattr(doctor, "_LISTS", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: USER)
    cli.main(["doctor"])
    last = capsys.readouterr().out.splitlines()[-1]
    install = "sudo apt-get install -y --no-install-recommends "
    assert last.startswith(f"all tools at once: {begins}{install}")
    assert {"gcc", "libc6-dev", "qemu-system-x86", "xz-utils", "libelf-dev"} <= set(last.split())


@pytest.mark.usefixtures("programs")
def test_every_missing_thing_has_a_mend() -> None:
    lacks = [f for f in (check() for check in doctor.CHECKS) if f.state is State.MISSING]
    assert lacks
    assert [f.topic for f in lacks if not f.mend] == []


def test_nothing_is_created(nothing: Path, tmp_path: Path) -> None:
    for check in doctor.CHECKS:
        check()
    assert sorted(tmp_path.iterdir()) == [nothing]


def test_machine_of_this_run_lacks_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if tools.missing(*tools.KERNEL_BUILD, *tools.UNPACK, tools.QEMU):
        pytest.skip("this machine lacks tools")
    assert cli.main(["doctor"]) == 0, capsys.readouterr().out


@pytest.mark.usefixtures("programs")
def test_root_is_told_that_runs_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tools.NO_INSTALL, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor.check_install().state is State.OK
    assert "sudo" not in doctor.check_compiler().mend
    monkeypatch.setenv(tools.NO_INSTALL, "1")
    assert tools.NO_INSTALL in doctor.check_install().text


def test_broken_qemu(programs: Path) -> None:
    qemu = programs / "qemu-system-x86_64"
    qemu.write_text("#!/bin/sh\necho 'lib.so is not there' >&2\nexit 127\n")
    qemu.chmod(0o755)
    found = doctor.check_qemu()
    assert found.state is State.MISSING
    assert "lib.so is not there" in found.text


def test_qemu_of_another_name_without_iommus(programs: Path) -> None:
    qemu = programs / "qemu-kvm"
    qemu.write_text('#!/bin/sh\n[ "$1" = --version ] && echo QEMU 9.0\nexit 0\n')
    qemu.chmod(0o755)
    found = doctor.check_qemu()
    assert found.state is State.OK
    assert found.text == f"QEMU 9.0, {qemu}"
    found = doctor.check_iommus()
    assert found.state is State.NOTE
    assert "no device intel-iommu" in found.text
    assert "no device amd-iommu" in found.text


def test_kvm_absent(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel, "DEVICE", nothing / "kvm")
    assert doctor.check_kvm().state is State.NOTE
    assert "no " in doctor.check_kvm().text


def test_kvm_not_permitted(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = nothing / "kvm"
    device.touch()
    monkeypatch.setattr(accel, "DEVICE", device)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = doctor.check_kvm()
    assert found.state is State.NOTE
    assert "usermod" in found.mend


def test_kvm_not_tried_without_a_kernel(nothing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = nothing / "kvm"
    device.touch()
    monkeypatch.setattr(accel, "DEVICE", device)
    assert "the first run tries it" in doctor.check_kvm().text


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory", lambda: 512 << 20)
    found = doctor.check_memory()
    assert found.state is State.NOTE
    assert "512 MiB available" in found.text
    assert "--iommufd-memory" in found.mend


@pytest.mark.usefixtures("nothing")
def test_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    found = doctor.check_cache()
    assert found.state is State.MISSING
    assert "0.0 GB free" in found.text
    assert "PYTEST_IOMMUFD_CACHE" in found.mend


def test_cache_folder_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYTEST_IOMMUFD_CACHE", str(tmp_path / "file" / "cache"))
    assert doctor.check_cache().state is State.MISSING


@pytest.mark.usefixtures("nothing")
def test_cache_folder_not_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in doctor.check_cache().text


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "has no"),
        (("iommu",), "but for the rules of mock devices (CONFIG_IOMMUFD_TEST): --kernel running"),
        (("iommu", "mock"), "--kernel running"),
    ],
)
def test_own_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], says: str
) -> None:
    for name in there:
        (tmp_path / name).touch()
    monkeypatch.setattr(doctor, "DEVICE", str(tmp_path / "iommu"))
    monkeypatch.setattr(doctor, "MOCK_DEVICES", str(tmp_path / "mock"))
    found = doctor.check_running()
    assert says in found.text
    assert (found.state is State.OK) == ("iommu" in there)
