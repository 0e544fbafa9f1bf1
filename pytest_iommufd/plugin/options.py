# SPDX-License-Identifier: GPL-2.0-only
"""The options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.spec import DEFAULT_KERNEL
from pytest_iommufd.machine.iommu import IOMMUS, NONE
from pytest_iommufd.machine.vm import BOOT_SECONDS, CALL_SECONDS
from pytest_iommufd.plugin.reproducers import FORMS

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("iommufd", "Linux iommufd")
    group.addoption(
        "--kernel",
        action="append",
        metavar="SPEC",
        help="kernel under test: X.Y or a source tree, each with +SERIES of patches, an image, or "
        "'running' (this machine's own: iommufd_test is dangerous); may be repeated; "
        f"default {DEFAULT_KERNEL}",
    )
    group.addoption(
        "--rule",
        action="append",
        metavar="PATTERN",
        help="run only tests of rules whose name matches, such as 'hwpt_alloc.flags.*'; "
        "may be repeated",
    )
    group.addoption(
        "--rules-json",
        metavar="FILE",
        help="write what each rule gave on each kernel to a JSON file",
    )
    group.addoption(
        "--rules-html",
        metavar="FILE",
        help="write it to one HTML page that needs nothing else",
    )
    group.addoption(
        "--iommufd-accel",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="how guests run; auto: KVM if a try shows that it works",
    )
    group.addoption(
        "--iommufd-memory",
        type=int,
        default=1024,
        metavar="MIB",
        help="memory of a guest (default %(default)s)",
    )
    group.addoption(
        "--iommufd-iommu",
        choices=(NONE, *IOMMUS),
        default=NONE,
        help="an IOMMU that guests have, with PCI devices bound to vfio-pci (default %(default)s)",
    )
    group.addoption(
        "--iommufd-vfio",
        action="append",
        metavar="ADDRESS",
        default=[],
        help="with --kernel running: a PCI device bound to vfio-pci that tests may take, such as "
        "0000:01:00.0; may be repeated",
    )
    group.addoption(
        "--iommufd-boot-deadline",
        type=float,
        default=BOOT_SECONDS,
        metavar="SECONDS",
        help="how long a guest may take until it serves (default %(default)s)",
    )
    group.addoption(
        "--iommufd-call-deadline",
        type=float,
        default=CALL_SECONDS,
        metavar="SECONDS",
        help="how long a call may take (default %(default)s)",
    )
    group.addoption(
        "--fail-nth",
        action="store_true",
        help="run each test whose calls must succeed again with every point of them failing",
    )
    group.addoption(
        "--iommufd-coverage",
        type=Path,
        metavar="FOLDER",
        help="write there which lines of iommufd ran; for kernels with counters, such as 7.3+gcov",
    )
    group.addoption(
        "--reproducer",
        action="append",
        choices=tuple(FORMS),
        help="write what each failing test did to the kernel as a C program, as a TEST_F of the "
        "kernel's selftest, or as a syzkaller program; may be repeated",
    )
    group.addoption(
        "--reproducer-folder",
        default="reproducers",
        metavar="FOLDER",
        help="where to (default %(default)s)",
    )
    group.addoption(
        "--reproducer-of",
        choices=("failed", "all"),
        default="failed",
        help="of which tests (default %(default)s)",
    )
