# SPDX-License-Identifier: GPL-2.0-only
"""A kernel in packages of Debian or Red Hat, unpacked into the cache; nothing is installed."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.progress import Silent
from pytest_iommufd.host.run import ask, clean_environment
from pytest_iommufd.kernel.asis import config, image, module
from pytest_iommufd.kernel.asis.modules import ENDS, Modules, listed_in
from pytest_iommufd.kernel.source.identity import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_iommufd.kernel.cache.store import Cache


@dataclass(frozen=True)
class _Format:
    """A kind of packages.

    Attributes:
        is_called: for people.
        begins: the first bytes of each.
        as_tar: prints what is in {package} as a tar archive.
        extract: unpacks {package} into {folder}, and prints the names or an error.
        architecture: ends the names of those for this one.
    """

    is_called: str
    begins: bytes
    as_tar: tuple[str, ...]
    extract: tuple[str, ...]
    architecture: str


_FORMATS = {
    ".deb": _Format(
        "a Debian package",
        b"!<arch>\ndebian-binary",
        ("dpkg-deb", "--fsys-tarfile", "{package}"),
        ("dpkg-deb", "--vextract", "{package}", "{folder}"),
        "_amd64",
    ),
    ".rpm": _Format(
        "an RPM package",
        b"\xed\xab\xee\xdb",
        ("bsdtar", "-c", "-f", "-", "--format", "gnutar", "@{package}"),
        ("bsdtar", "-x", "-v", "-f", "{package}", "-C", "{folder}"),
        ".x86_64",
    ),
}
SUFFIXES = tuple(_FORMATS)
"""Ends the names of packages."""
_ARCHITECTURES = ("amd64", "all")
# Debian has both in one package up to Linux 6.18, and in packages of their own since.
_CONFIG = re.compile(r"(?:\./)?(?:boot/config-[^/]+|(?:usr/)?lib/modules/[^/]+/config)")
_BUILTIN = re.compile(r"(?:\./)?(?:usr/)?lib/modules/[^/]+/modules\.builtin")
_IMAGES = ("boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz")
_MODULES = ("lib/modules/*/", "usr/lib/modules/*/")
_TOGETHER = "all packages of the kernel in one --kernel, with : between the files"


def name_of(package: Path) -> str:
    """Return what a package's file is called, without the architecture and Debian's version."""
    bare = package.name.removesuffix(package.suffix)
    return bare.removesuffix(_FORMATS[package.suffix].architecture).partition("_")[0]


def unpack(packages: Sequence[Path], name: str, cache: Cache) -> Path:
    """Unpack the packages of a kernel, unless that was done before.

    Args:
        packages: files of one kernel, one of them with the image.
        name: what the kernel is called.
        cache: where to.

    Returns:
        The image; what belongs to it is beside it, as where it is installed.

    Raises:
        Problem: a file is damaged, no package or another architecture's, packages of several
            kernels are mixed, or the kernel has no iommufd. Nothing is kept then.
    """
    stats = [package.stat() for package in packages]
    files = zip(packages, stats, strict=True)
    key = digest(*(f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in files))[:12]
    entry = cache.unpacked / f"{name}-{key}"
    if not entry.is_dir():
        tools.ensure(*dict.fromkeys(_FORMATS[package.suffix].extract[0] for package in packages))
        for package in packages:
            _check(package)
        _check_iommufd(name, packages)
        with cache.lock(entry, Silent()):
            if not entry.is_dir():
                with cache.making(entry) as partial:
                    for package in packages:
                        _extract(package, partial)
                    image.release(_image(partial))  # that it is one
    return _image(entry)


def _check(package: Path) -> None:
    """See that a file is a package, and not one for another architecture as far as it says so."""
    form = _FORMATS[package.suffix]
    with package.open("rb") as file:
        begin = file.read(len(form.begins))
    if begin != form.begins:
        raise _damaged(package, f"it is not {form.is_called}")
    if package.suffix != ".deb":
        return  # the configuration, the image and the modules say it
    asked = ask(["dpkg-deb", "--field", package, "Architecture"])
    if asked.returncode:
        raise _damaged(package, asked.stderr.decode(errors="replace"))
    architecture = asked.stdout.decode().strip()
    if architecture not in _ARCHITECTURES:
        raise Problem(
            f"the package {package} is for {architecture}",
            expected=f"a package for {_ARCHITECTURES[0]}",
        )


def _check_iommufd(name: str, packages: Sequence[Path]) -> None:
    """See that packages have iommufd, before any is unpacked."""
    # The configuration is in the smallest one where there are several.
    for package in sorted(packages, key=lambda package: package.stat().st_size):
        if configuration := _configuration(package):
            config.check_iommufd(name, configuration, None)
            return
    members = [member for package in packages for member in _members(package)]
    late = (config.parse(text, path) for path, text in members if _CONFIG.fullmatch(path))
    files = {module.name_of(Path(path)): Path(path) for path, _ in members if path.endswith(ENDS)}
    lists = [text for path, text in members if _BUILTIN.fullmatch(path)]
    builtin = listed_in("\n".join(lists)) if lists else None
    found = Modules(Path("its packages"), files, builtin)
    config.check_iommufd(name, next(late, None), found)


def _configuration(package: Path) -> config.Config | None:
    """Read the kernel's configuration from a package, without unpacking the rest."""
    for path, text in _members(package):
        if _CONFIG.fullmatch(path):
            return config.parse(text, f"/{path.removeprefix('./')} of {package.name}")
        if "/kernel/" in path:
            break  # modules, which are many, come after it where names are sorted
    return None


def _members(package: Path) -> Iterator[tuple[str, str]]:
    """The names of a package's files, with the text of what tells about the kernel."""
    with (
        subprocess.Popen(
            [word.format(package=package) for word in _FORMATS[package.suffix].as_tar],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process,
        # what is damaged is said better when it is unpacked
        contextlib.suppress(tarfile.TarError),
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            tells = _CONFIG.fullmatch(member.name) or _BUILTIN.fullmatch(member.name)
            file = archive.extractfile(member) if tells and member.isfile() else None
            yield member.name, file.read().decode(errors="replace") if file else ""


def _extract(package: Path, folder: Path) -> None:
    words = _FORMATS[package.suffix].extract
    done = ask([word.format(package=package, folder=folder) for word in words])
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        errors = (line for line in said.splitlines() if ": " in line)  # the rest are names
        raise _damaged(package, "\n".join(errors))
    if not said:
        # bsdtar takes an RPM that ends in its headers for one without files
        raise Problem(
            f"{package} has no files",
            expected=f"{_FORMATS[package.suffix].is_called} with files of the kernel",
            mend="download it again; leave it out if it only depends on others",
        )


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


def _damaged(package: Path, said: str) -> Problem:
    words = said.strip().splitlines()[:1] or ["its program failed"]
    why = re.sub(r"^(?:dpkg-deb: error: |bsdtar: (?:Error opening archive: )?|x )", "", words[0])
    return Problem(
        f"{package} cannot be unpacked: {why}",
        expected=f"{_FORMATS[package.suffix].is_called} that is whole",
        mend="download it again",
    )
