# SPDX-License-Identifier: GPL-2.0-only
"""Kernels in packages, made here with next to nothing in them."""

from __future__ import annotations

import gzip
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


@pytest.fixture
def deb(tmp_path: Path) -> Maker:
    """Makes a Debian package of what a function puts into a folder."""
    need("dpkg-deb")

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


@pytest.fixture
def rpm(tmp_path: Path) -> Maker:
    """Makes an RPM package as far as others than rpm read it: its headers say nothing."""
    need("bsdtar")

    def make(
        name: str,
        fill: Callable[[Path], object],
        architecture: str = "x86_64",
        *,
        backwards: bool = False,
    ) -> Path:
        root = tmp_path / name
        root.mkdir()
        fill(root)
        made = tmp_path / f"{name}-1.{architecture}.rpm"
        files = sorted((path.relative_to(root) for path in root.rglob("*")), reverse=backwards)
        packed = ["bsdtar", "-c", "-n", "-f", "-", "--format", "newc", "-C", root, *files]
        cpio = subprocess.run(packed, check=True, stdout=subprocess.PIPE).stdout
        lead = b"\xed\xab\xee\xdb\3".ljust(96, b"\0")
        header = b"\x8e\xad\xe8\1".ljust(16, b"\0")
        made.write_bytes(lead + header + header + gzip.compress(cpio))
        return made

    return make


@pytest.fixture(params=["deb", "rpm"])
def package(request: pytest.FixtureRequest) -> Maker:
    """Makes packages of each kind."""
    made: Maker = request.getfixturevalue(request.param)
    return made


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not on the PATH")


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


def test_one_package_is_a_kernel(deb: Maker, cache: Path) -> None:
    made = deb("linux-image-6.12.1", whole)
    kernel = resolve(str(made))
    assert (kernel.name, kernel.release) == ("linux-image-6.12.1", "6.12.1")
    assert kernel.image
    assert kernel.image.is_relative_to(cache / "unpacked")
    assert [module.name_of(path) for path in kernel.modules] == ["iommufd"]
    assert resolve(str(made)) == kernel
    assert [path.name for path in (cache / "unpacked").iterdir()] == [kernel.image.parts[-3]]


@pytest.mark.usefixtures("cache")
def test_the_packages_of_one_kernel_are_put_together(deb: Maker) -> None:
    made = (
        deb("linux-binary-6.12.1", binary),
        deb("linux-base-6.12.1", base, "all"),
        deb("linux-modules-6.12.1", lambda root: modules(root / "usr/lib")),
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
    told = refused(str(made), cache, "kernel linux-image-6.12.1(-1)? has no iommufd")
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
    assert "all packages of the kernel in one --kernel" in told.expected


def test_a_package_for_another_architecture(deb: Maker, cache: Path) -> None:
    made = deb("linux-image-6.12.1", whole, "arm64")
    refused(str(made), cache, r"linux-image-6\.12\.1_1_arm64\.deb is for arm64")


@pytest.mark.parametrize("part", [0, 3, 100, 200, -50])
def test_a_damaged_package(package: Maker, cache: Path, part: int) -> None:
    made = package("linux-image-6.12.1", whole)
    made.write_bytes(made.read_bytes()[:part])
    told = refused(str(made), cache, rf"{made.name} (cannot be unpacked: \S|has no files)")
    assert "download it again" in told.mend
    assert len(told.what.splitlines()) == 1


def test_a_file_of_another_kind(package: Maker, cache: Path) -> None:
    """An encrypted one is such a file; bsdtar alone would take a .tar for an .rpm."""
    made = package("linux-image-6.12.1", whole)
    subprocess.run(["tar", "-c", "-f", made, "-C", made.parent, "linux-image-6.12.1"], check=True)
    refused(
        str(made), cache, rf"{made.name} cannot be unpacked: it is not an? (Debian|RPM) package"
    )


def test_a_kernel_of_red_hat(rpm: Maker, cache: Path) -> None:
    """The image is where Fedora has it, and a package that only depends on the others is none."""
    release = "6.12.1-200.fc42.x86_64+debug"
    top = f"lib/modules/{release}"

    def core(root: Path) -> None:
        add_image(root / top / "vmlinuz", release)
        add_config(root / top / "config", IOMMUFD="m")

    parts = (
        rpm("kernel-debug-core-6.12.1", core),
        rpm("kernel-debug-modules-core-6.12.1", lambda root: modules(root / "lib", release)),
    )
    kernel = resolve(":".join(map(str, parts)))
    assert (kernel.name, kernel.release) == ("kernel-debug-core-6.12.1-1", release)
    assert [module.name_of(path) for path in kernel.modules] == ["iommufd"]
    assert kernel.image
    assert kernel.image.is_relative_to(cache / "unpacked")


def test_an_rpm_without_files(rpm: Maker, cache: Path) -> None:
    """bsdtar finds no fault with one that ends in its headers."""
    made = rpm("kernel-6.12.1", whole)
    made.write_bytes(made.read_bytes()[:110])
    refused(str(made), cache, "kernel-6.12.1-1.x86_64.rpm has no files")


def test_an_rpm_for_another_architecture(rpm: Maker, cache: Path) -> None:
    def core(root: Path) -> None:
        add_config(root / "lib/modules/6.12.1/config", arch="arm64")

    made = rpm("kernel-core-6.12.1", core, "aarch64")
    refused(str(made), cache, "config of kernel-core-.*aarch64.rpm is for arm64")


def test_an_image_for_another_architecture_is_not_kept(rpm: Maker, cache: Path) -> None:
    def image(root: Path) -> None:
        path = root / "lib/modules/6.12.1/vmlinuz"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"\0\0\0\0zimg".ljust(1024, b"\0"))

    refused(str(rpm("kernel-core-6.12.1", image)), cache, "not an x86 kernel image: .* arm64")


def test_an_rpm_as_rpmbuild_makes_it(tmp_path: Path, cache: Path) -> None:
    need("rpmbuild")
    need("bsdtar")
    root = tmp_path / "root"
    add_image(root / "lib/modules/6.12.1/vmlinuz")
    add_config(root / "lib/modules/6.12.1/config", IOMMUFD="m")
    modules(root / "lib")
    spec = tmp_path / "kernel.spec"
    spec.write_text(
        "Name: kernel-core\nVersion: 6.12.1\nRelease: 1\nSummary: a test\nLicense: GPL\n"
        "%global __os_install_post %{nil}\n%description\nA test.\n"
        f"%install\ncp -a '{root}/.' '%{{buildroot}}'\n%files\n/lib\n"
    )
    command = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", spec]
    subprocess.run(command, check=True, capture_output=True)
    (made,) = tmp_path.glob("top/RPMS/*/*.rpm")
    kernel = resolve(str(made))
    assert (kernel.name, kernel.release) == ("kernel-core-6.12.1-1", "6.12.1")
    assert [module.name_of(path) for path in kernel.modules] == ["iommufd"]
    made.write_bytes(made.read_bytes()[:-40])
    shutil.rmtree(cache / "unpacked")
    refused(str(made), cache, "cannot be unpacked: .*truncated")


def test_the_kernel_is_called_by_its_first_package(package: Maker, cache: Path) -> None:
    """Whichever has the configuration."""

    def without(root: Path) -> None:
        add_config(root / "usr/lib/modules/6.12.1/config", IOMMUFD="")

    made = package("linux-binary-6.12.1", binary), package("linux-base-6.12.1", without)
    refused(":".join(map(str, made)), cache, r"kernel linux-binary-6\.12\.1(-1)? has no iommufd")


def test_a_configuration_after_the_modules(rpm: Maker, cache: Path) -> None:
    made = rpm("linux-image-6.12.1", lambda root: whole(root, iommufd=""), backwards=True)
    refused(str(made), cache, "CONFIG_IOMMUFD is not set in boot/config-6.12.1")


def test_modules_tell_what_no_configuration_does(
    package: Maker, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(root: Path) -> None:
        add_module(root / "usr/lib/modules/6.12.1/kernel/drivers", "virtio_net")
        (root / "usr/lib/modules/6.12.1/modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")

    made = package("linux-binary-6.12.1", binary), package("linux-modules-6.12.1", plain)
    monkeypatch.setattr(packages, "_extract", lambda *_: pytest.fail("it was unpacked"))
    spec = ":".join(map(str, made))
    refused(spec, cache, "iommufd is neither built in nor in its packages, so there is nothing")


def core(root: Path) -> None:
    """An image and its configuration, which is what Fedora has in kernel-core."""
    binary(root)
    add_config(root / "usr/lib/modules/6.12.1/config", IOMMUFD="m")


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("parts", [(core,), (binary, base)])
def test_the_package_with_the_modules_is_asked_for(
    package: Maker, parts: tuple[Callable[[Path], None], ...]
) -> None:
    made = [package(f"linux-{part.__name__}-6.12.1", part) for part in parts]
    with pytest.raises(Problem, match="has iommufd as a module") as caught:
        resolve(":".join(map(str, made)))
    assert "all of the kernel: --kernel FILE:FILE" in caught.value.mend


def test_what_is_no_package_beside_one(package: Maker, tmp_path: Path) -> None:
    made = package("linux-image-6.12.1", whole)
    for other in (tmp_path, tmp_path / "none.deb", made.with_suffix(".txt")):
        with pytest.raises(Problem, match="no such package"):
            parse(f"{made}:{other}")
    with pytest.raises(Problem, match="patch series cannot be applied"):
        parse(f"{made}+gcov")
