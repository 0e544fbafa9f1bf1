# SPDX-License-Identifier: GPL-2.0-only
"""Runs on this run's kernel as somebody else would have it: a build folder, or an image."""

from __future__ import annotations

import lzma
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_iommufd.lab import Bench

    Run = Callable[..., pytest.RunResult]

SUITE = """
from pytest_iommufd import rule

@rule("a.rule")
def test_mocked(iommufd, mock_device):
    assert iommufd
    assert mock_device

def test_kernel(bench):
    print("modules:", *(module.name for module in bench.machine.modules))
    print("headers:", bench.header)
"""


@pytest.fixture
def copied(bench: Bench, tmp_path: Path) -> tuple[Path, Path]:
    """The kernel's image and modules, in folders that say nothing of where they were built."""
    assert bench.kernel.image
    image = tmp_path / "bzImage"
    shutil.copy(bench.kernel.image, image)
    folder = tmp_path / "modules"
    folder.mkdir()
    for module in bench.kernel.modules:
        shutil.copy(module, folder)
    return image, folder


def test_a_build_folder_is_tested_as_it_is(run: Run, bench: Bench) -> None:
    assert bench.kernel.build
    assert bench.header
    result = run(SUITE, "-s", f"--kernel={bench.kernel.build}", kernel=False)
    result.assert_outcomes(passed=2)
    names = " ".join(module.name for module in bench.kernel.modules)
    result.stdout.fnmatch_lines(
        [
            f"iommufd: build: release {bench.kernel.release}, *",
            f"*modules: {names}",
            f"headers: Uapi(*, kernel {bench.header.kernel})",
        ]
    )


def test_an_image_with_compressed_modules_is_tested_by_each_worker(
    run: Run, copied: tuple[Path, Path]
) -> None:
    image, folder = copied
    for module in list(folder.iterdir()):
        packed = lzma.compress(module.read_bytes(), check=lzma.CHECK_CRC32)
        module.with_name(f"{module.name}.xz").write_bytes(packed)
        module.unlink()
    options = (f"--kernel={image}", f"--iommufd-modules={folder}", "-n1")
    result = run(SUITE, *options, kernel=False)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"iommufd: bzImage: *image {image}, modules of {folder}"])


def test_a_module_of_another_configuration_is_told_in_one_sentence(
    run: Run, copied: tuple[Path, Path]
) -> None:
    """Of the same release: only the kernel can tell."""
    image, folder = copied
    module = folder / "iommufd.ko"
    content = module.read_bytes()
    other = re.sub(rb"(vermagic=\S+ )SMP ", rb"\1UMP ", content)
    assert other != content
    module.write_bytes(other)
    result = run(SUITE, f"--kernel={image}:{folder}", kernel=False)
    result.assert_outcomes(errors=1, skipped=1)
    what = "it was built for another kernel or with another configuration (Exec format error)"
    result.stdout.fnmatch_lines(
        [
            f"kernel bzImage refused the module iommufd: {what}*",
            "expected: modules of the same build as the image",
        ]
    )


def test_a_guest_without_debugfs_is_tested(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "from pytest_iommufd.machine import qemu\n"
        "command = qemu.Guest.command\n"
        "def without_debugfs(guest, folder):\n"
        "    words = command(guest, folder)\n"
        "    at = words.index('-append') + 1\n"
        "    return [*words[:at], f'{words[at]} debugfs=off', *words[at + 1:]]\n"
        "qemu.Guest.command = without_debugfs\n"
    )
    result = run(SUITE)
    result.assert_outcomes(passed=2)
    remark = "the guest has no debugfs (CONFIG_DEBUG_FS): what the kernel warns of but once"
    lines = [line for line in result.outlines if remark in line]
    assert len(lines) == 1, "it is told once"


def test_folders_of_modules_are_for_images(run: Run, tmp_path: Path) -> None:
    result = run(SUITE, f"--iommufd-modules={tmp_path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*1 folders of modules are given for 0 kernel images"])
