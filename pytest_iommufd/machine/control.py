# SPDX-License-Identifier: GPL-2.0-only
"""Control of a QEMU guest from outside it, by QMP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from qemu.qmp import QMPClient, QMPError

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = 2.0


def inject_nmi(path: Path) -> bool:
    """Have every processor of a guest take an NMI: its kernel prints where it is, and panics.

    Args:
        path: QEMU's control socket.

    Returns:
        Whether QEMU took the command.
    """
    try:
        asyncio.run(asyncio.wait_for(_execute(path, "inject-nmi"), _SECONDS))
    except EOFError:
        return True  # the kernel has panicked and QEMU has left before it could say so
    except (QMPError, OSError, TimeoutError):
        return False
    return True


async def _execute(path: Path, command: str) -> None:
    client = QMPClient("pytest-iommufd")
    await client.connect(str(path))
    try:
        await client.execute(command)
    finally:
        await client.disconnect()
