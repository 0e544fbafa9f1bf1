# SPDX-License-Identifier: GPL-2.0-only
"""What git knows of a source tree, which is never written to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import ask

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

_MEND = re.compile(r"git config --global --add safe\.directory .+")


def git(tree: Path, *argv: str) -> subprocess.CompletedProcess[bytes]:
    """Ask git.

    Args:
        tree: the checkout.
        argv: what to ask.

    Returns:
        Its answer.

    Raises:
        OSError: there is no git.
        Problem: git refuses to read the checkout.
    """
    # Without optional locks git does not refresh the index.
    asked = ask(["git", "--no-optional-locks", "-C", tree, *argv])
    if mend := _MEND.search(asked.stderr.decode(errors="replace")):
        raise Problem(
            f"git refuses to read {tree}: it belongs to another user",
            expected="a checkout of this user's, or one that this user's git trusts",
            mend=mend[0],
        )
    return asked
