# SPDX-License-Identifier: GPL-2.0-only
"""A kernel in Debian packages, unpacked into the cache; nothing is installed."""

from __future__ import annotations

import re
import subprocess
import tarfile
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.host.run import ask, clean_environment
from pytest_iommufd.kernel.asis import config
from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_iommufd.kernel.cache.store import Cache

SUFFIX = ".deb"
_ARCHITECTURES = ("amd64", "all")
# Debian has both in one package up to Linux 6.18, and in packages of their own since.
_CONFIG = re.compile(r"\./(?:boot/config-[^/]+|(?:usr/)?lib/modules/[^/]+/config)")
_IMAGES = ("boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
_MODULES = ("lib/modules/*/", "usr/lib/modules/*/")
_TOGETHER = "--kernel FILE.deb:FILE.deb, with all packages of the kernel"


def unpack(packages: Sequence[Path], name: str, cache: Cache) -> Path:
    """Unpack the packages of a kernel, unless that was done before.

    Args:
        packages: .deb files of one kernel, one of them with the image.
        name: what the kernel is called.
        cache: where to.

    Returns:
        The image; what belongs to it is beside it, as where it is installed.

    Raises:
        Problem: a file is damaged, no package or another architecture's, packages of several
            kernels are mixed, or the kernel has no iommufd. Nothing is kept then.
    """
    tools.ensure("dpkg-deb")
    stats = [package.stat() for package in packages]
    files = zip(packages, stats, strict=True)
    key = digest(*(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in files))[:12]
    entry = cache.unpacked / f"{name}-{key}"
    if not entry.is_dir():
        for package in packages:
            _check(package)
        with cache.lock(entry, Silent()):
            if not entry.is_dir():
                with cache.making(entry) as partial:
                    for package in packages:
                        _extract(package, partial)
                    _image(partial)
    return _image(entry)


def _check(package: Path) -> None:
    """See that a package is one for this architecture, of a kernel that has iommufd."""
    asked = ask(["dpkg-deb", "--field", package, "Architecture"])
    if asked.returncode:
        raise _damaged(package, asked.stderr)
    architecture = asked.stdout.decode().strip()
    if architecture not in _ARCHITECTURES:
        raise Problem(
            f"the package {package} is for {architecture}",
            expected=f"a package for {_ARCHITECTURES[0]}",
        )
    if configuration := _configuration(package):
        config.check_iommufd(package.name.partition("_")[0], configuration, None)


def _configuration(package: Path) -> config.Config | None:
    """Read the kernel's configuration from a package, without unpacking the rest."""
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", package],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    if _CONFIG.fullmatch(member.name) and (file := archive.extractfile(member)):
                        text = file.read().decode(errors="replace")
                        return config.parse(text, f"{member.name[1:]} of {package.name}")
                    if "/kernel/" in member.name:
                        break  # modules, which are many, come after it
        except tarfile.TarError:
            pass  # dpkg-deb itself says it better when it unpacks
    return None


def _extract(package: Path, folder: Path) -> None:
    done = ask(["dpkg-deb", "--extract", package, folder])
    if done.returncode:
        raise _damaged(package, done.stderr)


def _image(folder: Path) -> Path:
    images = [path for pattern in _IMAGES for path in folder.glob(pattern)]
    places = [path for pattern in _MODULES for path in folder.glob(pattern)]
    releases = sorted(
        {path.name.removeprefix("vmlinuz-") for path in images if path.parent.name == "boot"}
        | {path.name for path in places}
    )
    if len(releases) > 1:
        raise Problem(
            f"packages of several kernels are mixed: {', '.join(releases)}",
            expected=_TOGETHER,
        )
    if not images:
        raise Problem("the packages have no kernel image", expected=_TOGETHER)
    return images[0]


def _damaged(package: Path, said: bytes) -> Problem:
    words = said.decode(errors="replace").strip().splitlines()[:1] or ["dpkg-deb failed"]
    return Problem(
        f"{package} cannot be unpacked: {words[0].removeprefix('dpkg-deb: error: ')}",
        expected="a whole Debian package",
        mend="download it again",
    )
