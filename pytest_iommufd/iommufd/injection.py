# SPDX-License-Identifier: GPL-2.0-only
"""One point of one ioctl that is made to fail."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        at: which ioctl, from 0; none for -1.
        nth: which point in it, from 1.
        usual: what each ioctl gives without a failure, errnos; another one is the failure's.
        made: the ioctls made so far.
    """

    at: int
    nth: int
    usual: Sequence[int] = ()
    made: list[Call] = field(default_factory=list)

    @property
    def call(self) -> Call | None:
        """The ioctl, once it is made."""
        return self.made[self.at] if 0 <= self.at < len(self.made) else None

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
                self.made.append(call)
                if self.call is call:
                    call.may_fail = True
                    call.usual = self.usual[self.at] if self.at < len(self.usual) else 0
                    programs[0].fail(index, self.nth)
        return []

    def forks(self, process: Process, child: Process) -> None:
        """Leave the child alone."""

    def ends(self, process: Process) -> None:
        """Know of nothing that ends."""

    def __str__(self) -> str:
        return f"point {self.nth} of ioctl {self.at} failed: {self.call}"
