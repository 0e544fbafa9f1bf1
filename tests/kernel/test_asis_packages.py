# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in Debian packages, made here by dpkg-deb with next to nothing in them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from asis_files import add_config, add_image, add_module

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import resolve
from pytest_iommufd.kernel.asis import module, packages
from pytest_iommufd.kernel.spec import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Maker = Callable[..., Path]

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not on the PATH")


@pytest.fixture
def package(tmp_path: Path) -> Maker:
    """Makes a package of what a function puts into a folder."""

    def make(name: str, fill: Callable[[Path], object], architecture: str = "amd64") -> Path:
        root = tmp_path / name
        (root / "DEBIAN").mkdir(parents=True)
        fields = {"Package": name.lower(), "Version": "1", "Architecture": architecture}
        fields |= {"Maintainer": "nobody <n@example.org>", "Description": "a test"}
        text = "".join(f"{key}: {value}\n" for key, value in fields.items())
        (root / "DEBIAN/control").write_text(text)
        fill(root)
        made = tmp_path / f"{name}_1_{architecture}.deb"
        subprocess.run(
            ["dpkg-deb", "--build", "-Zgzip", root, made], check=True, stdout=subprocess.DEVNULL
        )
        return made

    return make


def whole(root: Path, release: str = "6.12.1", iommufd: str = "m") -> None:
    """All of a kernel, as Debian has it up to Linux 6.18 and `make bindeb-pkg` ever."""
    add_image(root / f"boot/vmlinuz-{release}", release)
    add_config(root / f"boot/config-{release}", IOMMUFD=iommufd)
    modules(root / "lib", release)


def modules(top: Path, release: str = "6.12.1") -> None:
    add_module(top / f"modules/{release}/kernel/drivers", "iommufd", release=release)


def binary(root: Path) -> None:
    add_image(root / "usr/lib/modules/6.12.1/vmlinuz")


def base(root: Path) -> None:
    add_config(root / "usr/lib/modules/6.12.1/config", IOMMUFD="m")
    (root / "usr/lib/modules/6.12.1/modules.builtin").write_text(
        "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\n"
    )


def test_one_package_is_a_kernel(package: Maker, cache: Path) -> None:
    made = package("linux-image-6.12.1", whole)
    kernel = resolve(str(made))
    assert (kernel.name, kernel.release) == ("linux-image-6.12.1", "6.12.1")
    assert kernel.image
    assert kernel.image.is_relative_to(cache / "unpacked")
    assert [module.name_of(path) for path in kernel.modules] == ["iommufd"]
    assert resolve(str(made)) == kernel
    assert [path.name for path in (cache / "unpacked").iterdir()] == [kernel.image.parts[-3]]


@pytest.mark.usefixtures("cache")
def test_the_packages_of_one_kernel_are_put_together(package: Maker) -> None:
    made = (
        package("linux-binary-6.12.1", binary),
        package("linux-base-6.12.1", base, "all"),
        package("linux-modules-6.12.1", lambda root: modules(root / "usr/lib")),
    )
    kernel = resolve(":".join(map(str, made)))
    assert kernel.name == "linux-binary-6.12.1"
    assert [module.name_of(path) for path in kernel.modules] == ["iommufd"]


def refused(spec: str, cache: Path, match: str) -> Problem:
    """Resolve what is refused; nothing of it is kept."""
    with pytest.raises(Problem, match=match) as caught:
        resolve(spec)
    unpacked = cache / "unpacked"
    assert not unpacked.exists() or list(unpacked.iterdir()) == []
    return caught.value


def test_a_kernel_without_iommufd_is_not_even_unpacked(
    package: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = package("linux-image-6.12.1", lambda root: whole(root, iommufd=""))
    monkeypatch.setattr(packages, "_extract", lambda *_: pytest.fail("it was unpacked"))
    told = refused(str(made), cache, "kernel linux-image-6.12.1 has no iommufd")
    assert "CONFIG_IOMMUFD is not set in /boot/config-6.12.1 of linux-image" in told.what
    assert "\n" not in str(told)


def test_packages_of_two_kernels_are_not_mixed(package: Maker, cache: Path) -> None:
    one = package("linux-binary-6.12.1", binary)
    other = package("linux-modules-6.12.2", lambda root: modules(root / "usr/lib", "6.12.2"))
    refused(f"{one}:{other}", cache, r"packages of several kernels are mixed: 6\.12\.1, 6\.12\.2")
    both = package("linux-image-7.3.4", lambda root: whole(root, "7.3.4"))
    refused(f"{one}:{both}", cache, r"packages of several kernels are mixed: 6\.12\.1, 7\.3\.4")


def test_packages_without_an_image(package: Maker, cache: Path) -> None:
    made = package("linux-modules-6.12.1", lambda root: modules(root / "usr/lib"))
    told = refused(str(made), cache, "the packages have no kernel image")
    assert "FILE.deb:FILE.deb" in told.expected


def test_a_package_for_another_architecture(package: Maker, cache: Path) -> None:
    made = package("linux-image-6.12.1", whole, "arm64")
    refused(str(made), cache, r"linux-image-6\.12\.1_1_arm64\.deb is for arm64")


@pytest.mark.parametrize("part", [0, 3, 100, -50])
def test_a_damaged_package(package: Maker, cache: Path, part: int) -> None:
    made = package("linux-image-6.12.1", whole)
    made.write_bytes(made.read_bytes()[:part])
    told = refused(str(made), cache, r"linux-image-6\.12\.1_1_amd64\.deb cannot be unpacked: \S")
    assert "download it again" in told.mend


@pytest.mark.usefixtures("cache")
def test_the_package_with_the_modules_is_asked_for(package: Maker) -> None:
    made = package("linux-binary-6.12.1", binary), package("linux-base-6.12.1", base)
    with pytest.raises(Problem, match="has iommufd as a module") as caught:
        resolve(":".join(map(str, made)))
    assert "all of the kernel: --kernel FILE.deb:FILE.deb" in caught.value.mend


def test_what_is_no_package_beside_one(package: Maker, tmp_path: Path) -> None:
    made = package("linux-image-6.12.1", whole)
    for other in (tmp_path, tmp_path / "none.deb", made.with_suffix(".txt")):
        with pytest.raises(Problem, match="no such package"):
            parse(f"{made}:{other}")
    with pytest.raises(Problem, match="patch series cannot be applied"):
        parse(f"{made}+gcov")
