# SPDX-License-Identifier: GPL-2.0-only
"""What the calls that are being made are expected to give, for whoever takes note of them."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, eq=False)
class Block:
    """Calls that a rule is about.

    Attributes:
        wants: "OK", or the name of the errno that one of them must give; of several names any.
    """

    wants: tuple[str, ...]


_OPEN: ContextVar[tuple[Block, ...]] = ContextVar("open blocks", default=())


@contextlib.contextmanager
def expecting(*wants: str) -> Iterator[None]:
    """Say that the calls made within are those that a rule is about; see Block."""
    token = _OPEN.set((*_OPEN.get(), Block(wants)))
    try:
        yield
    finally:
        _OPEN.reset(token)


def open_blocks() -> tuple[Block, ...]:
    """Return the blocks that a call made now is in, the innermost last."""
    return _OPEN.get()
