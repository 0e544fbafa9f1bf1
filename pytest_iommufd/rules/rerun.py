# SPDX-License-Identifier: GPL-2.0-only
"""The command that runs a rule's tests again."""

from __future__ import annotations

import functools
import importlib
import shlex
from pathlib import Path


@functools.cache
def suite_package(folder: Path) -> str:
    """Return the suite's package that a folder is, "" when it is none of the installed ones."""
    suites = importlib.import_module("pytest_iommufd.suites")
    for place in map(Path, suites.__path__):
        if place.resolve() in folder.resolve().parents:
            parts = folder.resolve().relative_to(place.resolve()).parts
            return ".".join((suites.__name__, *parts))
    return ""


def command(folder: Path | None, slug: str, spec: str = "", nodeid: str = "") -> str:
    """Return the command that runs a rule again, by names of options that nobody else has.

    Args:
        folder: where the suite is, None when that is not known.
        slug: the rule.
        spec: the kernel, "" for the default one.
        nodeid: a test of it, for folders that are no suite of ours.
    """
    package = suite_package(folder) if folder else ""
    file = nodeid.partition("::")[0] or (str(folder) if folder else "")
    where = ["--pyargs", package] if package else [file] if file else []
    kernel = ["--iommufd-kernel", spec] if spec else []
    return shlex.join(["pytest", *where, *kernel, "--iommufd-rule", slug])
