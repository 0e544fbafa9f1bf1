# SPDX-License-Identifier: GPL-2.0-only
"""The description of a built kernel's uAPI, made again when the code that makes it has changed."""

from __future__ import annotations

import dataclasses
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.entries import Record
    from pytest_iommufd.kernel.cache.store import Cache


def describe(tree: Path, build: Path, destination: Path, progress: Progress) -> None:
    """Describe the uAPI of a kernel.

    Args:
        tree: its source tree.
        build: its build directory.
        destination: the file to write.
        progress: shows it.

    Raises:
        Problem: the headers are of no use.
    """
    from pytest_iommufd.uapi.describe import describe  # noqa: PLC0415 - only builders need it

    progress.step("reading the uAPI headers", 2)
    describe(tree=tree, build=build, destination=destination)


def renew(cache: Cache, entry: Path, record: Record, progress: Progress) -> Record:
    """Replace the description of a kernel in the cache.

    Args:
        cache: the cache.
        entry: the kernel's folder.
        record: what is remembered of it.
        progress: shows it.

    Returns:
        What is remembered of it now.

    Raises:
        Problem: the headers are of no use, or the cache folder cannot be written.
    """
    record = dataclasses.replace(record, describer=describer())
    with cache.writing(), tempfile.TemporaryDirectory(dir=entry) as scratch:
        fresh = Path(scratch) / record.uapi
        describe(Path(record.tree), entry / "build", fresh, progress)
        fresh.replace(entry / record.uapi)
        record.write(entry)
    return record


def describer() -> str:
    """Hash the code that describes a uAPI: what it writes changes with it.

    Returns:
        A hash.
    """
    here = resources.files("pytest_iommufd.uapi")
    return digest(*(here.joinpath(name).read_bytes() for name in ("describe.py", "abi.py")))
