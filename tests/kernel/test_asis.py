# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that others have built: what is found of them, and what is said of what is of no use."""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from asis_files import AARCH64, add_config, add_image, add_module, module_bytes
from kernel_helpers import make_tree

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import unpack
from pytest_iommufd.kernel import ready, resolve
from pytest_iommufd.kernel.asis import image, module, refusal
from pytest_iommufd.kernel.asis import modules as folder_of
from pytest_iommufd.kernel.spec import join_modules, parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Each with what it needs; some needs are built in.
TREE = {
    "drivers/iommu/iommufd/iommufd": ("iova_bitmap",),
    "drivers/iommu/iommufd/iova_bitmap": (),
    "drivers/vfio/vfio": ("iommufd",),
    "drivers/vfio/pci/vfio_pci": ("vfio", "vfio_pci_core"),
    "drivers/vfio/pci/vfio_pci_core": ("vfio", "irqbypass"),
    "drivers/virtio/virtio_pci": ("virtio_ring",),
    "drivers/virtio/virtio_ring": ("virtio",),
    "drivers/virtio/virtio": (),
    "drivers/char/virtio_console": ("virtio", "virtio_ring"),
    "drivers/net/virtio_net": ("virtio",),
}
ORDER = (
    *("virtio", "virtio_ring", "virtio_pci", "virtio_console", "iova_bitmap", "iommufd"),
    *("vfio", "vfio_pci_core", "vfio_pci"),
)


def fill(folder: Path, *, release: str = "6.12.1") -> list[str]:
    """Put modules where make would, and the list of what is built in; returns their paths."""
    paths = []
    for place, depends in TREE.items():
        top, _, name = place.rpartition("/")
        paths.append(add_module(folder / top, name, *depends, release=release))
    (folder / "modules.builtin").write_text("kernel/virt/lib/irqbypass.ko\n")
    return [str(path.relative_to(folder)) for path in paths]


def names(paths: tuple[Path, ...]) -> tuple[str, ...]:
    return tuple(module.name_of(path) for path in paths)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder that make O= filled, and the tree that it was made from."""
    tree = make_tree(tmp_path / "linux")
    header = tree / "drivers/iommu/iommufd/iommufd_test.h"
    uapi = tree / "include/uapi/linux/iommufd.h"
    for path in (header, uapi):
        path.parent.mkdir(parents=True)
        path.touch()
    folder = tmp_path / "out"
    order = [path.replace(".ko", ".o") for path in fill(folder)]
    (folder / "modules.order").write_text("\n".join(order))
    (folder / "include/config").mkdir(parents=True)
    (folder / "Makefile").write_text(f"export KBUILD_OUTPUT = .\ninclude {tree}/Makefile\n")
    add_config(folder / ".config", IOMMUFD="m", VIRTIO_PCI="m", VIRTIO_CONSOLE="m")
    add_image(folder / "arch/x86/boot/bzImage")
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The image of a kernel that was installed, below a folder that stands for /."""
    root = tmp_path / "root"
    fill(root / "lib/modules/6.12.1/kernel")
    shutil.move(root / "lib/modules/6.12.1/kernel/modules.builtin", root / "lib/modules/6.12.1")
    add_config(root / "boot/config-6.12.1", IOMMUFD="m", VIRTIO_PCI="m", VIRTIO_CONSOLE="m")
    return add_image(root / "boot/vmlinuz-6.12.1")


# ---- what is found ----


@pytest.mark.usefixtures("fakes")
@pytest.mark.parametrize("given", [".", "arch/x86/boot/bzImage"])
def test_a_build_folder_has_all_that_it_takes(
    build: Path, cache: Path, given: str, calls: Callable[[str], list[str]]
) -> None:
    before = sorted(build.rglob("*"))
    kernel = resolve(str(build / given))
    assert kernel.image == build / "arch/x86/boot/bzImage"
    assert kernel.release == "6.12.1"
    assert names(kernel.modules) == ORDER
    assert kernel.uapi
    assert kernel.uapi.is_relative_to(cache)
    assert calls("make") == []
    assert sorted(build.rglob("*")) == before
    assert ready(str(build / given)) == kernel


def test_headers_are_described_again_when_they_have_changed(build: Path, cache: Path) -> None:
    first = resolve(str(build)).uapi
    assert first
    assert cache in first.parents
    (build.parent / "linux/include/uapi/linux/iommufd.h").write_text("#define NEW 1\n")
    assert resolve(str(build)).uapi != first


@pytest.mark.usefixtures("cache")
def test_headers_without_those_of_iommufd_test_do_not_describe_a_kernel_that_has_it(
    build: Path,
) -> None:
    (build.parent / "linux/drivers/iommu/iommufd/iommufd_test.h").unlink()
    assert resolve(str(build)).uapi is None
    add_config(build / ".config", IOMMUFD="m", VIRTIO_PCI="m", VIRTIO_CONSOLE="m", IOMMUFD_TEST="")
    assert resolve(str(build)).uapi


@pytest.mark.usefixtures("cache")
def test_a_build_whose_tree_is_gone_has_no_headers(build: Path) -> None:
    shutil.rmtree(build.parent / "linux")
    kernel = resolve(str(build))
    assert kernel.uapi is None
    assert names(kernel.modules) == ORDER


@pytest.mark.usefixtures("cache")
def test_an_installed_kernel_finds_its_modules(installed: Path) -> None:
    kernel = resolve(str(installed))
    assert (kernel.release, kernel.name) == ("6.12.1", "vmlinuz-6.12.1")
    assert names(kernel.modules) == ORDER


@pytest.mark.usefixtures("cache")
def test_an_image_beside_its_modules_finds_them(installed: Path) -> None:
    beside = installed.parents[1] / "lib/modules/6.12.1/vmlinuz"
    shutil.copy(installed, beside)
    assert names(resolve(str(beside)).modules) == ORDER


@pytest.mark.usefixtures("cache")
def test_headers_of_a_package_are_found_beside_the_kernel(installed: Path) -> None:
    add_config(installed.parent / "config-6.12.1", IOMMUFD_TEST="")
    package = installed.parents[1] / "usr/src/linux-headers-6.12.1"
    common = package.with_name("linux-headers-6.12-common")
    (common / "include/uapi/linux").mkdir(parents=True)
    (common / "include/uapi/linux/iommufd.h").touch()
    package.mkdir()
    (package / "Makefile").write_text("include /usr/src/linux-headers-6.12-common/Makefile\n")
    assert resolve(str(installed)).uapi


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("given", ["", "lib/modules/6.12.1", "lib/modules/6.12.1/kernel/drivers"])
def test_modules_can_be_anywhere(installed: Path, tmp_path: Path, given: str) -> None:
    alone = shutil.copy(installed, tmp_path / "bzImage")
    assert resolve(str(alone)).modules == ()
    root = installed.parents[1]
    assert names(resolve(f"{alone}:{root / given}").modules) == ORDER


def test_an_updated_module_takes_the_place_of_the_older_one(installed: Path) -> None:
    top = installed.parents[1] / "lib/modules/6.12.1"
    newer = add_module(top / "updates", "iommufd")
    found = folder_of.of_folder(top, "6.12.1")
    assert newer in found.load_order("6.12.1")
    assert "iova_bitmap" not in names(found.load_order("6.12.1"))


def test_what_is_built_in_is_not_loaded(installed: Path) -> None:
    top = installed.parents[1] / "lib/modules/6.12.1"
    (top / "modules.builtin").write_text(
        "kernel/virt/lib/irqbypass.ko\nkernel/drivers/virtio/virtio.ko\n"
    )
    assert names(folder_of.of_folder(top, "").load_order("")) == ORDER[1:]


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_compressed_modules_are_read_and_unpacked(
    installed: Path, suffix: str, tmp_path: Path
) -> None:
    if suffix == ".zst" and not shutil.which("zstd"):
        pytest.skip("zstd is not on the PATH")
    top = installed.parents[1] / "lib/modules/6.12.1"
    plain = {path.name: path.read_bytes() for path in top.rglob("*.ko")}
    for path in list(top.rglob("*.ko")):
        packed = path.with_name(path.name + suffix)
        if suffix == ".zst":
            subprocess.run(["zstd", "-q", path, "-o", packed], check=True, cwd=tmp_path)
        else:
            pack = lzma.compress if suffix == ".xz" else gzip.compress
            packed.write_bytes(pack(path.read_bytes()))
        path.unlink()
    order = folder_of.of_folder(top, "6.12.1").load_order("6.12.1")
    assert names(order) == ORDER
    for path in order:
        assert path.suffix == suffix
        assert unpack.content(path) == plain[path.stem]


# ---- what is of no use ----


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\x7fELF", "an ELF file, such as a vmlinux"),
        (b"\x1f\x8b", "compressed by gzip"),
        (b"MZ\0\0" + bytes(0x34) + b"ARM\x64", "a kernel for arm64"),
        (b"MZ\0\0" + bytes(0x34) + b"RSC\x05", "a kernel for riscv"),
        (b"MZ\0\0zimg", "an EFI image"),
    ],
)
def test_an_image_for_something_else_is_named(tmp_path: Path, head: bytes, says: str) -> None:
    path = tmp_path / "Image"
    path.write_bytes(head + bytes(0x1000))
    with pytest.raises(Problem, match="not an x86 kernel image") as caught:
        parse(str(path))
    assert says in caught.value.what


def test_a_truncated_image_is_told_with_what_its_header_counts(tmp_path: Path) -> None:
    path = add_image(tmp_path / "bzImage")
    assert image.release(path) == "6.12.1"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Problem, match=f"truncated: it has {len(whole) - 1} bytes") as caught:
        parse(str(path))
    assert f"{len(whole)} bytes" in caught.value.expected


def test_a_build_for_another_architecture(build: Path) -> None:
    add_config(build / ".config", "arm64")
    with pytest.raises(Problem, match="is for arm64"):
        resolve(str(build))


def test_a_build_that_is_not_finished(build: Path) -> None:
    (build / "drivers/iommu/iommufd/iommufd.ko").unlink()
    with pytest.raises(Problem, match=r"iommufd\.ko is missing") as caught:
        resolve(str(build))
    assert caught.value.mend == f"make -C {build} modules"
    (build / "arch/x86/boot/bzImage").unlink()
    with pytest.raises(Problem, match="build folder without arch/x86/boot/bzImage") as caught:
        resolve(str(build))
    assert caught.value.mend == f"make -C {build} bzImage modules"


def test_modules_of_another_build(installed: Path) -> None:
    add_module(installed.parents[1] / "lib/modules/6.12.1/updates", "vfio", release="6.12.2")
    with pytest.raises(
        Problem, match=r"vfio\.ko was built for kernel 6\.12\.2, and the image is 6\.12\.1"
    ):
        resolve(str(installed))


def test_modules_of_other_releases_than_the_image_s(installed: Path, tmp_path: Path) -> None:
    other = add_image(tmp_path / "bzImage", "7.3.4")
    with pytest.raises(Problem, match=r"has modules of 6\.12\.1") as caught:
        resolve(f"{other}:{installed.parents[1]}")
    assert "7.3.4" in caught.value.expected


def test_a_module_that_another_needs_is_missing(installed: Path) -> None:
    top = installed.parents[1] / "lib/modules/6.12.1"
    next(top.rglob("iova-bitmap.ko")).unlink()
    with pytest.raises(Problem, match="the module iommufd needs iova_bitmap, which is neither"):
        resolve(str(installed))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a kernel module: .*: it is no ELF file"),
        (b"\x7fELF", "is truncated or damaged: it has 4 bytes"),
        (module_bytes("iommufd")[:300], "is truncated or damaged: it has 300 bytes"),
        (module_bytes("iommufd", info=".comment"), r"it has no section \.modinfo"),
        (module_bytes("iommufd", machine=AARCH64), "for another architecture: EM_AARCH64"),
    ],
    ids=["empty", "beginning", "truncated", "program", "foreign"],
)
def test_a_module_that_is_none(installed: Path, content: bytes, says: str) -> None:
    top = installed.parents[1] / "lib/modules/6.12.1"
    next(top.rglob("iommufd.ko")).write_bytes(content)
    with pytest.raises(Problem, match=says):
        resolve(str(installed))


def test_no_part_of_a_module_ends_in_a_traceback(tmp_path: Path) -> None:
    whole = module_bytes("iommufd", "iova_bitmap")
    path = tmp_path / "iommufd.ko"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(Problem, match=r"not a kernel module|truncated or damaged"):
            module.read(path)


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_a_compressed_file_that_is_damaged(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zst" and not shutil.which("zstd"):
        pytest.skip("zstd is not on the PATH")
    path = tmp_path / f"iommufd.ko{suffix}"
    whole = {".xz": lzma.compress(b"text" * 99), ".gz": gzip.compress(b"text" * 99)}
    for content in (whole.get(suffix, b"\x28\xb5\x2f\xfd")[:-5], b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(
            Problem, match=rf"iommufd\.ko\{suffix} cannot be unpacked: \S"
        ) as caught:
            unpack.content(path)
        assert f"that {suffix[1:]} has compressed" in caught.value.expected


@pytest.mark.usefixtures("fakes")
def test_zstd_is_asked_for_when_it_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "iommufd.ko.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    with pytest.raises(Problem, match="missing on this machine: zstd") as caught:
        unpack.content(path)
    assert "install" in caught.value.mend
    assert "zstd" in caught.value.mend


@pytest.mark.parametrize("suffix", unpack.SUFFIXES)
def test_a_module_that_has_gone(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(Problem, match=r"cannot read .*iommufd\.ko"):
        unpack.content(tmp_path / f"iommufd.ko{suffix}")


@pytest.mark.parametrize("known", ["config", "modules"])
def test_a_kernel_without_iommufd_is_answered_in_one_line(installed: Path, known: str) -> None:
    configuration = installed.parent / "config-6.12.1"
    add_config(configuration, IOMMUFD="")
    if known == "modules":
        configuration.unlink()
        next(installed.parents[1].rglob("iommufd.ko")).unlink()
    with pytest.raises(Problem, match=r"kernel 6\.12\.1 has no iommufd: .*nothing to test") as told:
        resolve(str(installed))
    assert "\n" not in str(told.value)
    assert ("CONFIG_IOMMUFD is not set in" in str(told.value)) == (known == "config")


@pytest.mark.parametrize("known", ["config", "modules"])
def test_a_kernel_without_virtio_is_told_what_to_switch_on(installed: Path, known: str) -> None:
    configuration = installed.parent / "config-6.12.1"
    add_config(configuration, VIRTIO_PCI="", VIRTIO_CONSOLE="")
    if known == "modules":
        configuration.unlink()
        for name in ("virtio-pci.ko", "virtio-console.ko"):
            next(installed.parents[1].rglob(name)).unlink()
    with pytest.raises(Problem, match="cannot run as a guest") as caught:
        resolve(str(installed))
    assert caught.value.mend == "switch on CONFIG_VIRTIO_PCI=y, CONFIG_VIRTIO_CONSOLE=y"


@pytest.mark.usefixtures("cache")
def test_modules_that_are_not_given_are_asked_for(installed: Path) -> None:
    add_config(installed.parent / "config-6.12.1", IOMMUFD="m")
    next(installed.parents[1].rglob("iommufd.ko")).unlink()
    with pytest.raises(Problem, match="has iommufd as a module") as caught:
        resolve(str(installed))
    assert "--iommufd-modules FOLDER" in caught.value.mend


def test_a_folder_that_holds_no_modules(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Problem, match=r"there is no module in .*empty"):
        resolve(f"{installed}:{tmp_path / 'empty'}")
    with pytest.raises(Problem, match=r"no such folder of modules: .*none"):
        resolve(f"{installed}:{tmp_path / 'none'}")


# ---- specs ----


def test_what_is_no_image_has_no_modules_of_its_own(build: Path, installed: Path) -> None:
    with pytest.raises(Problem, match="not a kernel image in front of a folder of modules"):
        parse(f"{build}:{installed.parent}")


@pytest.mark.parametrize("given", ["out", "out/arch/x86/boot/bzImage"])
def test_what_is_built_takes_no_series(build: Path, given: str) -> None:
    with pytest.raises(Problem, match="patch series cannot be applied"):
        parse(f"{build.parent / given}+gcov")


def test_each_image_gets_its_modules(installed: Path, build: Path, tmp_path: Path) -> None:
    other = add_image(tmp_path / "bzImage")
    specs = [str(installed), str(build), str(other)]
    assert join_modules(specs, ["one", "two"]) == [
        f"{installed}:one",
        str(build),
        f"{other}:two",
    ]
    with pytest.raises(Problem, match="1 folders of modules are given for 2 kernel images"):
        join_modules(specs, ["one"])


# ---- what a kernel says ----


@pytest.mark.parametrize(
    ("complaint", "says"),
    [
        ("module.00-iommufd.ko: Exec format error", "module iommufd: it was built for another"),
        ("module.12-vfio-pci.ko: Key was rejected by service", "module vfio-pci: it is not signed"),
        ("module.00-iommufd.ko: No such device", "module iommufd: No such device"),
        ("mount.tmpfs: No such device", "refused what the agent prepared: mount.tmpfs: No such"),
    ],
)
def test_a_refusal_is_one_sentence(complaint: str, says: str) -> None:
    assert says in refusal.sentence(complaint)
    assert not refusal.remark(complaint)
