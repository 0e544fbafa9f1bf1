# SPDX-License-Identifier: GPL-2.0-only
"""Debian's sources of the kernel, from whichever suite carries them.

X.Y is the package linux-source-X.Y, with Debian's patches. The machine's own apt configuration is
asked first. What it does not offer is looked for with a private one: its own lists and cache, the
machine's mirrors and keyring, and the suites that carry kernels. The machine's apt state is only
ever read. X.Y.Z is what kernel.org has released as such, as the source package linux brings it;
where a mirror has only linux-source-X.Y of that release it is that, with Debian's patches.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.host.files import write_whole
from pytest_iommufd.host.run import run
from pytest_iommufd.kernel.cache.store import PARTIAL, Cache, Estimates
from pytest_iommufd.kernel.source.mirrors import Where, find_mirrors, private_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_iommufd.host.progress import Progress

_Offer = TypeVar("_Offer")
_Had = TypeVar("_Had")
# The suites beside a release are small and carry the kernels; the releases are large.
_CHEAPEST: tuple[Where, ...] = ("pockets", "releases")
# Begins the name of a linux-source-X.Y that was asked for as X.Y.Z: it is not what X.Y is.
_EXACTLY = "exactly_"
# The .deb, its .tar.xz and the unpacked tree, which for a moment are all there.
SOURCE_SIZE = 2_300_000_000


@dataclass(frozen=True)
class Apt:
    """An apt configuration.

    Attributes:
        config: APT_CONFIG of a private one, None for the machine's own.
        cache: folder for what apt may write.
    """

    config: Path | None
    cache: Path

    def run(self, *argv: str, progress: Progress, cwd: Path | None = None) -> tuple[int, list[str]]:
        """Run an apt tool with this configuration; see `run.run`."""
        tool, *rest = argv
        options = ["-o", f"Dir::Cache={self.cache}"]
        if os.geteuid() == 0:
            # Else apt, as root, wants another user to own the folder, and warns.
            options += ["-o", "APT::Sandbox::User=root"]
        env = {"APT_CONFIG": str(self.config)} if self.config else {}
        return run([tool, *options, *rest], env=env, cwd=cwd, watch=progress.update)

    def candidate(self, name: str, progress: Progress) -> str | None:
        """The version of a package that this configuration offers, None for none."""
        _, lines = self.run("apt-cache", "policy", name, progress=progress)
        found = re.search(r"^\s*Candidate: (\d\S*)$", "\n".join(lines), re.MULTILINE)
        return found[1] if found else None

    def versions(self, progress: Progress) -> set[str]:
        """All X.Y of which this configuration offers a source package."""
        _, lines = self.run("apt-cache", "pkgnames", "linux-source-", progress=progress)
        names = (re.fullmatch(r"linux-source-(\d+\.\d+)", line) for line in lines)
        return {name[1] for name in names if name}

    def releases(self, name: str, progress: Progress) -> dict[str, list[str]]:
        """Versions of a package, or of the source package linux, that this offers, by X.Y.Z."""
        query = ("showsrc", "--only-source") if name == "linux" else ("show",)
        _, lines = self.run("apt-cache", *query, name, progress=progress)
        found: dict[str, list[str]] = {}
        for version in sorted({line.split()[1] for line in lines if line.startswith("Version: ")}):
            found.setdefault(version.rpartition("-")[0], []).append(version)
        return found


def package_of(version: str) -> str:
    """Return the package that has the source of `X.Y` or `X.Y.Z`."""
    return "linux" if version.count(".") > 1 else f"linux-source-{version}"


def trees(version: str, cache: Cache) -> list[Path]:
    """Return the source trees of `X.Y` or `X.Y.Z` that are in the cache."""
    patterns = [f"{package_of(version)}_*"]
    if package_of(version) == "linux":
        patterns = [f"linux_{version}-*", f"{_EXACTLY}*_{version}-*"]
    found = (tree for pattern in patterns for tree in cache.sources.glob(pattern))
    return [tree for tree in found if tree.suffix != PARTIAL]


def content(tree: Path) -> tuple[str, str]:
    """Tell what a source tree of the cache was unpacked of.

    Args:
        tree: one that `trees` or `fetch` returned.

    Returns:
        The package's name and version.
    """
    package, _, version = tree.name.removeprefix(_EXACTLY).partition("_")
    return package, version


def fetch(version: str, cache: Cache, progress: Progress, *, update: bool = False) -> Path:
    """Have the source tree of a kernel version in the cache.

    Args:
        version: `X.Y` or `X.Y.Z`.
        cache: where it goes.
        progress: told what is done.
        update: look for a newer package than those already in the cache.

    Returns:
        The tree, in a folder named PACKAGE_VERSION.

    Raises:
        Problem: nothing offers the version, or it cannot be downloaded or unpacked.
    """
    name = package_of(version)
    exact = name == "linux"
    here = trees(version, cache)
    if here and (exact or not update):
        return max(here, key=lambda tree: tree.stat().st_mtime)
    if tools.missing("apt-get", "apt-cache"):
        raise Problem(
            f"{name} is a Debian package, and this machine has no apt", mend="give a source tree"
        )
    tools.ensure(*tools.UNPACK, progress=progress)
    said: list[str] = []
    offered: set[str] = set()
    if exact:
        offers = _releases_on_offer(version, cache, progress, said, offered)
        what = f"the mirrors of this machine have no source of Linux {version}"
    else:
        offers = _packages_on_offer(name, cache, progress, said, offered, update=update)
        where = "in this machine's apt sources or in the suites of its mirrors"
        what = f"no source package {name} {where}"
    if tree := first_had(offers, lambda offer: _had(*offer, cache, progress)):
        return tree
    raise _not_offered(what, ", ".join(sorted(offered, key=_number)), said)


def first_had(offers: Iterator[_Offer], have: Callable[[_Offer], _Had]) -> _Had | None:
    """Have the first of what is on offer that can be downloaded.

    Args:
        offers: what is on offer, the best first.
        have: downloads one of them, or finds that it is here.

    Returns:
        What `have` returned; None where nothing is on offer.

    Raises:
        Problem: nothing that is on offer can be downloaded.
    """
    failed: Problem | None = None
    for offer in offers:
        try:
            return have(offer)
        except NotDownloadedError as error:
            # Old lists name files that their mirror no longer has: try the next.
            failed = error
    if failed:
        raise failed
    return None


def _had(tree: Path, apt: Apt, cache: Cache, progress: Progress) -> Path:
    with cache.lock(tree, progress):
        if not tree.is_dir():
            _make(tree, apt, cache, progress)
    return tree


def _packages_on_offer(
    name: str, cache: Cache, progress: Progress, said: list[str], offered: set[str], *, update: bool
) -> Iterator[tuple[Path, Apt]]:
    """Trees of a package, and configurations that offer them; `offered` collects versions."""
    for apt in configurations(cache, progress, said, update=update):
        offered.update(apt.versions(progress))
        if package := apt.candidate(name, progress):
            yield cache.sources / f"{name}_{package}", apt


def _releases_on_offer(
    version: str, cache: Cache, progress: Progress, said: list[str], offered: set[str]
) -> Iterator[tuple[Path, Apt]]:
    """Trees of a release, and configurations that offer them; `offered` collects releases."""
    for name, apt in _with_exact_versions(version, cache, progress, said):
        releases = apt.releases(name, progress)
        offered.update(releases)
        for package in releases.get(version, ()):
            yield cache.sources / f"{'' if name == 'linux' else _EXACTLY}{name}_{package}", apt


def _not_offered(what: str, known: str, said: list[str]) -> Problem:
    return Problem(
        what,
        expected=f"one of {known}" if known else "a Debian mirror in this machine's apt sources",
        mend="give one of those, or a source tree" if known else "give a source tree",
        detail="\n".join(said[-25:]),
    )


def configurations(
    cache: Cache, progress: Progress, said: list[str], *, update: bool
) -> Iterator[Apt]:
    """Find configurations to ask.

    Args:
        cache: where the private ones are kept.
        progress: told what is done.
        said: collects what apt says of failures.
        update: ask the machine's own, whose lists may be old, last.

    Yields:
        The configurations, the cheapest first.
    """
    folder = _folder(cache)
    if not update:
        yield Apt(None, folder / "cache")
    yield from filter(None, (_private(name, cache, progress, said) for name in _CHEAPEST))
    if update:
        yield Apt(None, folder / "cache")


def _with_exact_versions(
    version: str, cache: Cache, progress: Progress, said: list[str]
) -> Iterator[tuple[str, Apt]]:
    """Packages that may have a release, and configurations to ask for them."""
    if apt := _private("upstream", cache, progress, said):
        yield "linux", apt
    debian = package_of(version.rpartition(".")[0])
    for apt in configurations(cache, progress, said, update=False):
        yield debian, apt


def _folder(cache: Cache) -> Path:
    """Make the folder of apt's files, with what apt wants in it."""
    folder = cache.root / "apt"
    with cache.writing():
        (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    return folder


def _number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _private(where: Where, cache: Cache, progress: Progress, said: list[str]) -> Apt | None:
    """A configuration of some suites, None without a mirror; `said` collects what apt says."""
    sources = private_sources(find_mirrors(), where)
    if not sources:
        return None
    folder = _folder(cache)
    with cache.lock(folder, progress), cache.writing():
        private = _configured(folder / where, sources)
        what = "reading Debian's package lists (a private copy)"
        seconds = 40 if where == "upstream" else 8
        with Estimates(cache.root).timed(f"apt {where}", seconds, what, progress):
            status, lines = private.run("apt-get", "update", progress=progress)
        # A mirror may lack a suite; what the others offer counts.
        said += lines if status else []
    return private


def _configured(folder: Path, sources: str) -> Apt:
    """Write a configuration that sees only the given sources."""
    settings = {
        "Dir::Etc::sourcelist": folder / "private.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_whole(folder / "private.sources", sources)
    config = folder / "apt.conf"
    write_whole(config, "".join(f'{key} "{value}";\n' for key, value in settings.items()))
    return Apt(config, folder / "cache")


class NotDownloadedError(Problem):
    """A package that is offered but cannot be had."""


def _make(tree: Path, apt: Apt, cache: Cache, progress: Progress) -> None:
    """Download and unpack the package after which a tree's folder is named."""
    cache.need(SOURCE_SIZE)
    known = Estimates(cache.root)
    package = "=".join(content(tree))
    pristine = package.startswith("linux=")
    words = ("source", "--download-only", "--tar-only") if pristine else ("download",)
    with cache.making(tree) as partial:
        scratch = partial / ".pytest-iommufd"
        scratch.mkdir()
        with known.timed("download", 20, f"downloading {package}", progress):
            status, lines = apt.run("apt-get", *words, package, progress=progress, cwd=scratch)
        file = next(scratch.glob("*.orig.tar.*" if pristine else "*.deb"), None)
        if status or not file:
            raise NotDownloadedError(
                f"{package} cannot be downloaded",
                mend="check this machine's network and apt sources, or give a source tree",
                detail="\n".join(lines[-25:]),
            )
        with known.timed("unpack", 25, f"unpacking {file.name}", progress):
            if not pristine:
                _run(["dpkg-deb", "-x", file, scratch], cache, progress)
                file = next(scratch.glob("usr/src/linux-source-*.tar.xz"))
            _run(["tar", "-x", "-f", file, "-C", partial, "--strip-components=1"], cache, progress)
            shutil.rmtree(scratch)


def _run(argv: list[str | Path], cache: Cache, progress: Progress) -> None:
    status, lines = run(argv, watch=progress.update)
    if status:
        if any("No space left on device" in line for line in lines):
            raise cache.full()
        raise Problem(f"{argv[0]} failed", detail="\n".join(lines[-25:]))
