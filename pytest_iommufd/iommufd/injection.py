# SPDX-License-Identifier: GPL-2.0-only
"""One point of one ioctl that is made to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.request import Call, IoctlError


class InjectedFailure(Exception):  # noqa: N818 - not an error of the kernel
    """A call failed because a point in it was made to: the test ends, whatever it expects.

    Attributes:
        error: what the call gave.
    """

    def __init__(self, error: IoctlError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass
class Injection:
    """One point of one ioctl that is to fail.

    Attributes:
        at: which ioctl, from 0.
        nth: which point in it, from 1.
        seen: ioctls made so far.
        fired: whether the point was there.
        call: the ioctl, once it is made.
    """

    at: int
    nth: int
    seen: int = 0
    fired: bool = False
    call: Call | None = None

    def take(self) -> int:
        """Return which point of the next ioctl must fail, 0 for none."""
        self.seen += 1
        return self.nth if self.seen == self.at + 1 else 0

    def __str__(self) -> str:
        return f"point {self.nth} of ioctl {self.at} failed: {self.call}"
