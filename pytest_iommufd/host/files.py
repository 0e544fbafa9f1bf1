# SPDX-License-Identifier: GPL-2.0-only
"""Files that are never seen half written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
