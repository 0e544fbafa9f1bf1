# SPDX-License-Identifier: GPL-2.0-only
"""What is wrong with a name, a value or a layout."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable


class UapiError(Problem):
    """A value that does not fit its field, or two layouts that differ."""


class UnknownNameError(UapiError, AttributeError):
    """A constant, struct, field or ioctl that the kernel's headers do not have.

    It is an AttributeError too, so that `hasattr` and `getattr` with a default work.

    Attributes:
        missing: what they do not have, as Uapi.has() takes it; "" of what is none of theirs.
        lacks: why the kernel does not have that.
    """

    def __init__(
        self, what: str, *, missing: str = "", lacks: str = "", expected: str = ""
    ) -> None:
        super().__init__(what, expected=expected)
        self.missing = missing
        self.lacks = lacks or f"the kernel's header does not define {missing}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """End a sentence about an unknown name with its closest neighbour, if it has one."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
