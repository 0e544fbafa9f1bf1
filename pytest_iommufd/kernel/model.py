# SPDX-License-Identifier: GPL-2.0-only
"""What a resolved kernel is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted, or this machine's own.

    Attributes:
        spec: what the user wrote.
        name: its name in test ids; letters, digits and `._+-@` only.
        release: `uname -r` of it, empty for an image whose build is not known.
        source: where it came from, one line for people.
        image: the bzImage; None for this machine's kernel.
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
    modules: tuple[Path, ...] = ()
    uapi: Path | None = None
    log: Path | None = None
    build: Path | None = None
    tree: Path | None = None

    @property
    def running(self) -> bool:
        """Whether this is the kernel of this machine, which no one boots."""
        return self.image is None
