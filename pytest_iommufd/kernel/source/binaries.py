# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels, as packages by name from the mirrors of this machine."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.kernel.cache.store import Estimates
from pytest_iommufd.kernel.source.packages import (
    Apt,
    NotDownloadedError,
    configurations,
    first_had,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.cache.store import Cache

# What a kernel's package depends on of the same kernel, since Linux 6.19.
_PARTS = re.compile(r"\blinux-(?:image|binary|base|modules)-[^\s,|(]+")
# The packages of a kernel with all of Debian's modules are some 110 MB.
_SIZE = 200_000_000
_NEAR = 5


def downloaded(name: str, cache: Cache) -> tuple[Path, ...]:
    """Return the files of a kernel that were downloaded before, none if it was not.

    Args:
        name: of its package.
        cache: where they are kept.
    """
    return tuple(sorted((cache.downloads / name).glob("*.deb")))


def fetch(name: str, cache: Cache, progress: Progress) -> tuple[Path, ...]:
    """Have the packages of a kernel in the cache.

    Args:
        name: of the package, such as `linux-image-6.12.118+deb13-amd64`.
        cache: where they go.
        progress: told what is done.

    Returns:
        Its file, and those of the packages of the kernel that it depends on.

    Raises:
        Problem: no mirror of this machine offers it, or it cannot be downloaded.
    """
    if tools.missing("apt-get", "apt-cache"):
        raise Problem(
            f"{name} is to be downloaded by apt, which this machine does not have",
            mend="download its .deb files elsewhere and give these: --kernel FILE.deb:FILE.deb",
        )
    said: list[str] = []
    known: set[str] = set()
    with cache.lock(cache.downloads / name, progress):
        if files := downloaded(name, cache):
            return files  # of whom this one waited for
        offers = _on_offer(name, cache, progress, said, known)
        if had := first_had(offers, lambda apt: _download(name, apt, cache, progress)):
            return had
    near = difflib.get_close_matches(name, sorted(known), _NEAR)
    raise Problem(
        f"the mirrors of this machine have no package {name}",
        expected=f"such as {', '.join(near)}" if near else "a package of a kernel for amd64",
        mend="give one that they have, or the .deb files of this one",
        detail="\n".join(said[-25:]),
    )


def _on_offer(
    name: str, cache: Cache, progress: Progress, said: list[str], known: set[str]
) -> Iterator[Apt]:
    """Configurations that offer a package; `known` collects the names that the others offer."""
    for apt in configurations(cache, progress, said, update=False):
        if apt.candidate(name, progress):
            yield apt
        else:
            _, lines = apt.run("apt-cache", "pkgnames", "linux-image-", progress=progress)
            known.update(lines)


def _download(name: str, apt: Apt, cache: Cache, progress: Progress) -> tuple[Path, ...]:
    """Download a package, and those of the kernel that it depends on; returns the files."""
    names = [name]
    for one in names:  # which grows meanwhile
        _, lines = apt.run("apt-cache", "show", "--no-all-versions", one, progress=progress)
        needs = "\n".join(line for line in lines if line.startswith("Depends:"))
        names += [need for need in dict.fromkeys(_PARTS.findall(needs)) if need not in names]
    cache.need(_SIZE)
    with (
        Estimates(cache.root).timed("download", 20, f"downloading {name}", progress),
        cache.making(cache.downloads / name) as partial,
    ):
        status, lines = apt.run("apt-get", "download", *names, progress=progress, cwd=partial)
        if status:
            raise NotDownloadedError(
                f"{name} cannot be downloaded",
                mend="check this machine's network and apt sources, or give its .deb files",
                detail="\n".join(lines[-25:]),
            )
    return downloaded(name, cache)
