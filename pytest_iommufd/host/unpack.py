# SPDX-License-Identifier: GPL-2.0-only
"""Files that may be compressed, as distributions compress their kernel modules."""

from __future__ import annotations

import gzip
import lzma
import zlib
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.run import ask

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = ("", ".xz", ".zst", ".gz")
"""How the names of such files end; "" is not compressed."""


def content(path: Path) -> bytes:
    """Read a file, unpacked if the end of its name says that it is compressed.

    Args:
        path: the file.

    Returns:
        What was compressed.

    Raises:
        Problem: the file cannot be read, is truncated or damaged, or the program for it is missing
            on this machine.
    """
    try:
        if path.suffix == ".zst":
            return _zstd(path)
        packed = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(packed)
        return gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from error


def _zstd(path: Path) -> bytes:
    # Python has a module for it from 3.14 on
    tools.ensure("zstd")
    done = ask(["zstd", "-dcq", path])
    if done.returncode:
        if not path.is_file():
            raise Problem(f"cannot read {path}: there is no such file")
        raise _damaged(path, done.stderr.decode(errors="replace").strip())
    return done.stdout


def _damaged(path: Path, why: str) -> Problem:
    return Problem(
        f"{path} cannot be unpacked: {why}",
        expected=f"a whole file that {path.suffix[1:]} has compressed",
        mend="copy or install it again",
    )
