# SPDX-License-Identifier: GPL-2.0-only
"""The options, and short names for some where nobody else has an option of that name.

The value of `--iommufd-NAME` is `config.option.iommufd_NAME`, by whichever name it was given. One
that was not given is None, [] or False: anything else says that the plugin is wanted.
"""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

PREFIX = "--iommufd-"
SHORT = (
    "--kernel",
    "--rule",
    "--rules-json",
    "--rules-html",
    "--fail-nth",
    "--reproducer",
    "--reproducer-folder",
    "--reproducer-of",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, whose defaults are where they are used: to import those takes long."""
    group = parser.getgroup("iommufd", "Linux iommufd (--kernel and the like: as --iommufd-kernel)")
    group.addoption(
        "--iommufd-kernel",
        action="append",
        metavar="SPEC",
        help="--kernel: the kernel under test, X.Y, a source tree or TREE@REV of a git checkout, "
        "each with +SERIES of patches, a build folder, an image, 'running' (this machine's own: "
        "iommufd_test is dangerous) or 'ssh:[USER@]HOST' (that machine's own); may be repeated; "
        "default 6.12",
    )
    group.addoption(
        "--iommufd-modules",
        action="append",
        metavar="FOLDER",
        help="the modules of a kernel image, as installed or in any folder; once for each image",
    )
    group.addoption(
        "--iommufd-config",
        action="append",
        metavar="FILE",
        help="a fragment of a configuration for the kernels that are built; the last of several "
        "wins. The first may be a whole .config",
    )
    group.addoption(
        "--iommufd-rule",
        action="append",
        metavar="PATTERN",
        help="--rule: run only tests of rules whose name matches, such as 'hwpt_alloc.flags.*'; "
        "may be repeated",
    )
    group.addoption(
        "--iommufd-rules-json",
        metavar="FILE",
        help="--rules-json: write what each rule gave on each kernel to a JSON file",
    )
    group.addoption(
        "--iommufd-rules-html",
        metavar="FILE",
        help="--rules-html: write it to one HTML page that needs nothing else",
    )
    group.addoption(
        "--iommufd-strict",
        action="store_true",
        help="a rule that differs fails: one of what kernels do and nobody has promised",
    )
    group.addoption(
        "--iommufd-accel",
        choices=("auto", "kvm", "tcg"),
        help="how guests run; auto, the default: KVM if a try shows that it works",
    )
    group.addoption(
        "--iommufd-memory", type=int, metavar="MIB", help="memory of a guest (default 1024)"
    )
    group.addoption(
        "--iommufd-iommu",
        choices=("none", "intel", "amd"),
        help="an IOMMU that guests have, with PCI devices bound to vfio-pci (default none)",
    )
    group.addoption(
        "--iommufd-vfio",
        action="append",
        metavar="ADDRESS",
        default=[],
        help="with --kernel running or ssh:HOST: a PCI device bound to vfio-pci that tests may "
        "take, such as 0000:01:00.0; may be repeated",
    )
    group.addoption(
        "--iommufd-boot-deadline",
        type=float,
        metavar="SECONDS",
        help="how long a guest may take until it serves (default 60)",
    )
    group.addoption(
        "--iommufd-call-deadline",
        type=float,
        metavar="SECONDS",
        help="how long a call may take (default 10)",
    )
    group.addoption(
        "--iommufd-reboot-deadline",
        type=float,
        metavar="SECONDS",
        help="with --kernel ssh:HOST: how long the machine may take until it answers again "
        "(default 300)",
    )
    group.addoption(
        "--iommufd-power-cycle",
        metavar="COMMAND",
        help="likewise: run by sh where the machine does not answer; it is named in $IOMMUFD_HOST",
    )
    group.addoption(
        "--iommufd-console",
        metavar="COMMAND",
        help="likewise: run by sh, prints what the machine's console gets until it is killed",
    )
    group.addoption(
        "--iommufd-fail-nth",
        action="store_true",
        help="--fail-nth: run each test whose calls must succeed again with every point of them "
        "failing",
    )
    group.addoption(
        "--iommufd-coverage",
        metavar="FOLDER",
        help="write there which lines of iommufd ran; for kernels with counters, such as 7.3+gcov",
    )
    group.addoption(
        "--iommufd-reproducer",
        action="append",
        choices=("c", "kselftest", "syz"),
        help="--reproducer: write what each failing test did to the kernel as a C program, as a "
        "TEST_F of the kernel's selftest, or as a syzkaller program; may be repeated",
    )
    group.addoption(
        "--iommufd-reproducer-folder",
        metavar="FOLDER",
        help="--reproducer-folder: where to (default reproducers); replaced are only files that "
        "an earlier run has made",
    )
    group.addoption(
        "--iommufd-reproducer-of",
        choices=("failed", "all"),
        help="--reproducer-of: of which tests (default failed)",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """Give short names their meaning, once all who might have options of that name are there.

    Which conftest.py files are looked at depends on what is a value and what a folder. What follows
    a short name is ours here already, unless it is a place with a conftest.py.
    """
    long = _lengthened(parser, args)
    if long != args:
        before = early_config.known_args_namespace
        # what takes no value is an option of a conftest.py that is still to come
        with contextlib.suppress(pytest.UsageError):
            known = parser.parse_known_args(long, copy.copy(early_config.option))
            known.confcutdir = before.confcutdir
            values = map(Path, set(before.file_or_dir) - set(known.file_or_dir))
            if not any((value / "conftest.py").exists() for value in values):
                early_config.known_args_namespace = known
    yield
    args[:] = _lengthened(parser, args)


def _lengthened(parser: pytest.Parser, args: list[str]) -> list[str]:
    """Return arguments with our names in place of short ones that nobody else has."""
    end = args.index("--") if "--" in args else len(args)
    short = {word.partition("=")[0] for word in args[:end]} & set(SHORT)
    ours = {name for name in short if not _is_known(parser, name)}
    return [
        PREFIX + word[2:] if at < end and word.partition("=")[0] in ours else word
        for at, word in enumerate(args)
    ]


def _is_known(parser: pytest.Parser, name: str) -> bool:
    try:
        return name not in parser.parse_known_and_unknown_args([name])[1]
    except pytest.UsageError:
        return True  # it wants a value


def is_used(config: pytest.Config) -> bool:
    """Tell whether any of the options was given."""
    return any(value for name, value in vars(config.option).items() if name.startswith("iommufd_"))
