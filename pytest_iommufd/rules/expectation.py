# SPDX-License-Identifier: GPL-2.0-only
"""What the catalogue has a test expect, and what the kernel did."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Protocol, Self

import pytest

from pytest_iommufd.iommufd import IoctlError
from pytest_iommufd.iommufd.expecting import expecting
from pytest_iommufd.rules.model import DECLARED, OK, Defect, RuleError
from pytest_iommufd.uapi import errno_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

# The module whose frames are between a test and a fixture that it asks for by name.
_FIXTURES = "_pytest.fixtures"


class Made(Protocol):
    """A call that was made; as a string it says which and what it gave."""

    @property
    def errno(self) -> int:
        """What it gave, 0 for success."""


class Expectation:
    """Expects of a call what the test's rule says, and remembers what it got.

        with expected:
            iommufd.hwpt_alloc(mock_device, ioas, __reserved=1)
        if expected.ok:
            ...

    A block makes exactly one call, and no fixture: what else fails there could pass for it.

    Args:
        result: "OK", or an errno's name.
        defects: what kernels are known to do instead. Of a call that gives the result of one,
            `defect` remembers it; the test goes on, and is that of a known defect if it passes.

    Attributes:
        defects: the same.
        defect: the known defect that the kernel showed, None before.
        calls: those that the test has made so far.
        judged: those that it has judged, but for those of which it was only given the errno.
        idle: whether the test has asked for it and not looked at it yet.
        got: what the last call that was judged gave, "" before.
        error: its error, None when it succeeded.
    """

    def __init__(self, result: str, defects: tuple[Defect, ...] = ()) -> None:
        self.defects = defects
        self.defect: Defect | None = None
        self.calls: Sequence[object] = ()
        self.judged: list[object] = []
        self.idle = False
        self.got = ""
        self.error: IoctlError | None = None
        self._result = result
        self._before = 0

    @property
    def result(self) -> str:
        """What the call must give: "OK", or an errno's name."""
        self.idle = False
        return self._result

    @property
    def ok(self) -> bool:
        """Whether the call must succeed."""
        return self.result == OK

    def as_declared(self, result: str, defect: str = "") -> Self:
        """Take the result from what the test is made from, where the catalogue leaves it to that.

        Args:
            result: "OK", or an errno's name.
            defect: why a kernel is known to accept the call instead.
        """
        if self._result == DECLARED:
            self._result = result
            if defect:
                self.defects = (*self.defects, Defect(OK, defect))
        return self

    def check(self, *made: Made | int) -> None:
        """Judge calls that were made already: in one round trip, or by other threads.

        Args:
            made: each call, or just its errno.

        Raises:
            RuleError: there is none.
        """
        __tracebackhide__ = True
        if not made:
            raise RuleError("there is no call to judge", expected="at least one")
        for each in made:
            number = each if isinstance(each, int) else each.errno
            if not isinstance(each, int):
                self.judged.append(each)
            self._judge(number, errno_name(number) if isinstance(each, int) else each)

    def __enter__(self) -> Self:
        self._expecting = expecting(self.result)
        self._expecting.__enter__()
        self._before = len(self.calls)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        __tracebackhide__ = True
        self._expecting.__exit__(None, None, None)
        if not (error is None or isinstance(error, IoctlError)):
            return False
        made = self.calls[self._before :]
        if len(made) != 1:
            raise RuleError(
                f"the block makes {len(made)} calls: {', '.join(map(str, made))}",
                expected="one, which its rule is about",
            )
        if any(frame.f_globals["__name__"] == _FIXTURES for frame, _ in traceback.walk_tb(trace)):
            raise RuleError(f"a fixture failed in the block: {error}", expected="its call only")
        self.error = error
        self.judged += made
        self._judge((error.errno or 0) if error else 0, error)
        return True

    def _judge(self, number: int, given: object) -> None:
        __tracebackhide__ = True
        self.got = errno_name(number) if number else OK
        if self.got == self.result:
            return
        shown = next((one for one in self.defects if one.gives == self.got), None)
        if not shown:
            gave = f"got {given}" if number else "but the kernel accepted the call"
            raise AssertionError(f"expected {self.result}, {gave}") from None
        self.defect = shown


EXPECTATION = pytest.StashKey[Expectation]()
"""Where a test keeps its expectation."""
