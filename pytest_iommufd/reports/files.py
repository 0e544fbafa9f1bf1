# SPDX-License-Identifier: GPL-2.0-only
"""Whether files that a run is to write at its end can be written, told at its beginning."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path


def writable(option: str, path: Path) -> None:
    """See that a file can be written, or replaced.

    Args:
        option: the option that names it.
        path: the file.

    Raises:
        Problem: it cannot.
    """
    if path.is_dir():
        raise Problem(f"{option} {path}: it is a folder", expected="a file, new or to be replaced")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise Problem(
            f"{option} {path}: its folder cannot be written to: {error.strerror}",
            expected="a folder that exists and is yours",
        ) from error
