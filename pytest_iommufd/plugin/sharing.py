# SPDX-License-Identifier: GPL-2.0-only
"""How pytest-xdist shares a run with machines elsewhere: all tests of one go to one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Collection

    import pytest


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Gives workers single tests, but all tests of a machine elsewhere to the same one.

    xdist's own loadgroup does that by marks, but not with pytest 9.2, whose node ids xdist 3.8
    cannot change.

    Args:
        config: pytest's.
        log: xdist's.
        names: of the kernels that machines elsewhere run, as in test ids.
    """

    def __init__(self, config: pytest.Config, log: object, names: Collection[str]) -> None:
        super().__init__(config, log)
        self._names = names

    def _split_scope(self, nodeid: str) -> str:
        return share_of(nodeid, self._names)


def share_of(nodeid: str, names: Collection[str]) -> str:
    """Return what tests of one machine have in common: a kernel's name, else the test itself.

    Args:
        nodeid: the test.
        names: of the kernels that machines elsewhere run.
    """
    values = f"-{nodeid.partition('[')[2].removesuffix(']')}-"
    # Where one name begins like another, nothing tells the rest of it from the next value: the
    # shorter one stands for both.
    return min((name for name in names if f"-{name}-" in values), key=len, default=nodeid)
