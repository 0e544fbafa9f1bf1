# SPDX-License-Identifier: GPL-2.0-only
"""What the calls that are being made are expected to give."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.request import IoctlError
from pytest_iommufd.uapi import errno_name

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


@contextlib.contextmanager
def raises_errno(*expected: int) -> Iterator[list[IoctlError]]:
    """Expect the block's ioctl to fail with an errno; a success or another errno is a failure.

    Args:
        expected: the errno; several only where the source allows several.

    Yields:
        A list that has the error afterwards.
    """
    __tracebackhide__ = True
    names = " or ".join(errno_name(number) for number in expected)
    caught: list[IoctlError] = []
    try:
        with expecting(*map(errno_name, expected)):
            yield caught
    except IoctlError as error:
        if error.errno not in expected:
            raise AssertionError(f"expected {names}, got {error}") from None
        caught.append(error)
    else:
        raise AssertionError(f"expected {names}, but the kernel accepted the call")
