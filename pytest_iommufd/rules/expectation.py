# SPDX-License-Identifier: GPL-2.0-only
"""What the catalogue has a test expect, and what the kernel did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import pytest

from pytest_iommufd.iommufd import IoctlError
from pytest_iommufd.iommufd.expecting import expecting
from pytest_iommufd.rules.model import DECLARED, OK
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from types import TracebackType

    from pytest_iommufd.rules.model import Defect


class Expectation:
    """Expects of a block what the test's rule says, and remembers what it got.

        with expected:
            iommufd.hwpt_alloc(mock_device, ioas, __reserved=1)
        if expected.ok:
            ...

    Args:
        result: "OK", or an errno's name.
        defects: what kernels are known to do instead. Of a block that gives the result of one,
            `defect` remembers it; the test goes on, and is that of a known defect if it passes.

    Attributes:
        result, defects: the same.
        defect: the known defect that the kernel showed, None before.
        got: what the last block's ioctl gave, "" before.
        error: its error, None when it succeeded.
    """

    def __init__(self, result: str, defects: tuple[Defect, ...] = ()) -> None:
        self.result = result
        self.defects = defects
        self.defect: Defect | None = None
        self.got = ""
        self.error: IoctlError | None = None

    @property
    def ok(self) -> bool:
        """Whether the call must succeed."""
        return self.result == OK

    def as_declared(self, result: str) -> Self:
        """Take the result from what the test is made from, where the catalogue leaves it to that.

        Args:
            result: "OK", or an errno's name.
        """
        if self.result == DECLARED:
            self.result = result
        return self

    def __enter__(self) -> Self:
        self._expecting = expecting(self.result)
        self._expecting.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        self._expecting.__exit__(None, None, None)
        self.error = error if isinstance(error, IoctlError) else None
        if error is not self.error:
            return False
        self.got = errno_name(self.error.errno or 0) if self.error else OK
        shown = next((one for one in self.defects if one.gives == self.got), None)
        if self.got != self.result and not shown:
            gave = f"got {error}" if error else "but the kernel accepted the call"
            raise AssertionError(f"expected {self.result}, {gave}") from None
        if self.got != self.result:
            self.defect = shown
        return error is not None


EXPECTATION = pytest.StashKey[Expectation]()
"""Where a test keeps its expectation."""
