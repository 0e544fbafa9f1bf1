# SPDX-License-Identifier: GPL-2.0-only
"""What a resolved kernel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted, or one that a machine runs already.

    Attributes:
        spec: what the user wrote.
        name: its name in test ids; letters, digits and `._+-@` only.
        release: `uname -r` of it, empty for an image whose build is not known.
        source: where it came from, one line for people.
        image: the bzImage; None for a kernel that a machine runs already.
        host: the machine that runs it, as ssh takes it; empty for this machine and for guests.
        modules: .ko files in the order to load them; empty when iommufd is built in.
        uapi: description of its uAPI made from its own headers (JSON); None when unknown.
        log: log of its build; None when it was not built here.
        build: its build directory; None when it was not built here.
        tree: its source tree; None when it was not built here.
    """

    spec: str
    name: str
    release: str
    source: str
    image: Path | None = None
    host: str = ""
    modules: tuple[Path, ...] = ()
    uapi: Path | None = None
    log: Path | None = None
    build: Path | None = None
    tree: Path | None = None

    @property
    def running(self) -> bool:
        """Whether a machine runs it already, so that no guest is booted with it."""
        return self.image is None
