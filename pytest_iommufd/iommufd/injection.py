# SPDX-License-Identifier: GPL-2.0-only
"""One point of one ioctl that is made to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_iommufd.iommufd.request import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_iommufd.agent.protocol import Program, Result
    from pytest_iommufd.machine import Process


@dataclass
class Injection:
    """One point of one ioctl of /dev/iommu that is to fail; an observer of a machine.

    It counts what is sent by itself, not what somebody adds to a program.

    Attributes:
        at: which ioctl, from 0.
        nth: which point in it, from 1.
        seen: ioctls made so far.
        call: the ioctl, once it is made.
    """

    at: int
    nth: int
    seen: int = 0
    call: Call | None = None

    @property
    def fired(self) -> bool:
        """Whether the point was there."""
        return self.call is not None and self.call.injected

    def runs(self, process: Process, programs: Sequence[Program]) -> list[list[Result]]:  # noqa: ARG002
        """Have the ioctl of a program fail, if it is its turn."""
        for index, op in enumerate(programs[0].ops):
            call = op.made_of
            if not isinstance(call, Call) or not call.alone or op.fail_nth:
                continue
            if call.ioctl.startswith("IOMMU_"):
                if self.seen == self.at:
                    call.may_fail, self.call = True, call
                    programs[0].fail(index, self.nth)
                self.seen += 1
        return []

    def forks(self, process: Process, child: Process) -> None:
        """Leave the child alone."""

    def ends(self, process: Process) -> None:
        """Know of nothing that ends."""

    def __str__(self) -> str:
        return f"point {self.nth} of ioctl {self.at} failed: {self.call}"
