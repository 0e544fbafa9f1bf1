# SPDX-License-Identifier: GPL-2.0-only
"""Files that are never seen half written, and whether they can be written."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either as it was or as it shall be.

    Args:
        path: the file.
        text: its content.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text, "utf-8")
        os.replace(fresh, path)  # noqa: PTH105 - its atomicity is the point
    finally:
        fresh.unlink(missing_ok=True)


def writable(option: str, path: Path) -> None:
    """See that a file can be written, or replaced.

    Args:
        option: the option that names it.
        path: the file.

    Raises:
        Problem: it cannot.
    """
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file"
        raise Problem(f"{option} {path}: it is {what}", expected="a file, new or to be replaced")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Problem(
            f"{option} {path}: its folder cannot be written to: {error.strerror}",
            expected="a folder that exists and is yours",
        ) from error
