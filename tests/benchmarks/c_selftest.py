# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own C selftest, built from a kernel's source."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.kernel import Kernel

PROGRAMS = ("iommufd", "iommufd_fail_nth")


def build(kernel: Kernel, folder: Path) -> list[Path]:
    """Build it, static; headers of libcap are ours where the machine has none."""
    assert kernel.tree
    headers = folder / "headers"
    headers.mkdir()
    make = ["make", "-s", "-C", kernel.tree, f"O={headers}", "headers"]
    subprocess.run(make, check=True, capture_output=True)
    selftests = kernel.tree / "tools/testing/selftests"
    built = []
    for name in PROGRAMS:
        program = folder / name
        subprocess.run(
            [
                *("gcc", "-static", "-O2", "-w", "-D_GNU_SOURCE=", "-o", program),
                *("-I", Path(__file__).with_name("libcap"), "-isystem", headers / "usr/include"),
                *("-I", selftests, selftests / "iommu" / f"{name}.c"),
            ],
            check=True,
        )
        built.append(program)
    return built
