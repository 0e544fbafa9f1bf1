# SPDX-License-Identifier: GPL-2.0-only
"""Ties splats in the kernel log to the test during which they appeared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import pytest

from pytest_iommufd.machine import KernelSplat, Machine, MachineLost
from pytest_iommufd.machine.splat import find_splats

if TYPE_CHECKING:
    from types import TracebackType


class SplatWatch:
    """Watches a machine's log over a block.

    Args:
        machine: whose log, or None to watch nothing.
        expected: patterns of the titles of splats that must appear.
    """

    def __init__(self, machine: Machine | None, expected: tuple[str, ...] = ()) -> None:
        self._machine = machine
        self._expected = expected
        self._begin = len(machine.log) if machine else 0

    @classmethod
    def of(cls, item: pytest.Item) -> Self:
        """Watch the machine that a test uses, with what its markers expect."""
        machine = getattr(item, "funcargs", {}).get("machine")
        markers = item.iter_markers("expect_splat")
        return cls(
            machine if isinstance(machine, Machine) else None,
            tuple(str(marker.args[0]) for marker in markers),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._machine is None or isinstance(error, MachineLost | KeyboardInterrupt):
            return
        # complete up to the last answer: what was printed during a call came before it
        splats = find_splats(self._machine.log[self._begin :])
        unexpected = [
            splat
            for splat in splats
            if not any(re.search(pattern, splat.title) for pattern in self._expected)
        ]
        if unexpected:
            count = f"{len(unexpected)} unexpected splats" if len(unexpected) > 1 else "a splat"
            raise KernelSplat(
                f"{count} in the kernel log: {unexpected[0].title}",
                console="\n".join(splat.text for splat in unexpected),
            ) from error
        if error is None:
            for pattern in self._expected:
                if not any(re.search(pattern, splat.title) for splat in splats):
                    pytest.fail(
                        f"the kernel log has no splat whose title matches {pattern!r}",
                        pytrace=False,
                    )
