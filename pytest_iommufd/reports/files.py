# SPDX-License-Identifier: GPL-2.0-only
"""Files that a run is to write at its end: whether they can be is told at its beginning."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pytest_iommufd.errors import Problem


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


def write(path: Path, text: str) -> None:
    """Write a file as a whole, or leave what is there.

    Raises:
        OSError: it cannot be written.
    """
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123 - mkstemp has opened it
            file.write(text)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
