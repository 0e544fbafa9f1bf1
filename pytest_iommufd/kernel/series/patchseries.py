# SPDX-License-Identifier: GPL-2.0-only
"""Patch series, as they stand behind a `+` in a kernel spec.

A series is one of those beside this file, a folder of patches, a file of mails, or commits of a
git checkout. All of it is read at once: what the patches say is part of the kernel's identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_iommufd.errors import Problem
from pytest_iommufd.host import tools
from pytest_iommufd.kernel.series import patches
from pytest_iommufd.kernel.source.git import git
from pytest_iommufd.kernel.source.identity import digest

FORMS = (
    "the name of a series shipped here, a folder of patches, an mbox, "
    "or commits (A..B of a tree, else REPO@A..B)"
)
_SHIPPED = Path(__file__).parent
_QUILT = "series"
_SUFFIXES = (".patch", ".diff")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]")
_NAME_LENGTH = 64
# Neither revision begins with a dot or a slash, so that a path with ".." in it is none.
_RANGE = re.compile(r"[^\s./~-][^\s]*?\.\.\.?[^\s./-]\S*")
# Whatever the user's git configuration says about mails.
_FORMAT = (
    "format-patch",
    "--stdout",
    "--no-attach",
    "--no-cover-letter",
    "--no-ext-diff",
    "--no-notes",
    "--no-renames",
    "--no-signature",
    "--no-textconv",
    "--no-thread",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--end-of-options",
)


@dataclass(frozen=True)
class Series:
    """Patches to apply one after the other.

    Attributes:
        name: its name for people and in kernel names; letters, digits and `._+-` only.
        origin: where it was read from.
        patches: the patches, in order; at least one.
    """

    name: str
    origin: str
    patches: tuple[patches.Patch, ...]

    def __str__(self) -> str:
        count = len(self.patches)
        return f"{self.name} ({count} patch{'es' if count != 1 else ''})"


def identity(series: tuple[Series, ...]) -> str:
    """Identify what series do to a tree: the content of their patches, in order.

    Args:
        series: the series, in order.

    Returns:
        A hash.
    """
    return digest(*(patch.data for one in series for patch in one.patches))


def shipped() -> list[str]:
    """The series that come with this package.

    Returns:
        Their names.
    """
    return sorted(path.name for path in _SHIPPED.glob("[a-z]*") if path.is_dir())


def split(text: str) -> list[str]:
    """Split `A+B` into series. A `+` may be part of a file name: the longest that exists counts.

    Args:
        text: what follows the first `+` of a spec.

    Returns:
        The series, as written, in order.
    """
    words = text.split("+")
    found = []
    while words:
        ends = [1] if words[0] in shipped() else range(len(words), 0, -1)
        joined = {end: "+".join(words[:end]) for end in ends}
        end = next((end for end in ends if _exists(joined[end])), 1)
        found.append(joined[end])
        words = words[end:]
    return found


def find(text: str, tree: Path | None) -> Series:
    """Read the series that a spec names.

    Args:
        text: one of `FORMS`.
        tree: the tree that it is applied to, where `A..B` is looked for; None for a package.

    Returns:
        The series.

    Raises:
        Problem: there is no such series, or it cannot be read, or holds no patch.
    """
    if text in shipped():
        return _folder(_SHIPPED / text)
    path = Path(text).expanduser()
    if text and path.exists():
        path = path.resolve()
        return _folder(path) if path.is_dir() else _file(path)
    repo, _, commits = text.rpartition("@")
    if repo and _RANGE.fullmatch(commits):
        return _commits(Path(repo).expanduser(), commits)
    if _RANGE.fullmatch(text):
        if tree is None:
            raise Problem(
                f"commits {text} of what? A source package has no git history",
                mend=f"name the checkout: REPO@{text}",
            )
        return _commits(tree, text)
    if "/" in text or text.startswith(("~", ".")) or path.suffix in (*_SUFFIXES, ".mbox", ".mbx"):
        raise Problem(f"no such patch series: {text}", expected=FORMS)
    raise Problem(
        f"not a patch series: {text!r}",
        expected=FORMS,
        detail=f"shipped here: {', '.join(shipped()) or 'none'}",
    )


def _exists(text: str) -> bool:
    return Path(text).expanduser().exists()


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text)[:_NAME_LENGTH] or "series"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Problem(f"cannot read patch {path}: {error.strerror}") from error


def _folder(folder: Path) -> Series:
    try:
        listed = (folder / _QUILT).is_file()
        files = _quilt(folder / _QUILT) if listed else _patch_files(folder)
    except OSError as error:
        raise Problem(f"cannot read patch folder {folder}: {error.strerror}") from error
    found: list[patches.Patch] = []
    for path in files:
        data = _read(path)
        here = patches.read(data, path.name)
        # a cover letter among them is fine
        if not here and (listed or not patches.is_mail(data)):
            raise Problem(f"{path} holds no diff", expected="a patch")
        found += here
    if not found:
        raise Problem(
            f"no patches in {folder}{'' if any(folder.iterdir()) else ': an empty folder'}",
            expected="files named *.patch or *.diff, or a file `series` that lists patches",
        )
    return Series(_name(folder.name), str(folder), tuple(found))


def _patch_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)


def _quilt(listing: Path) -> list[Path]:
    """The files that a quilt series file lists."""
    found = []
    for number, line in enumerate(_read(listing).decode(errors="replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        path = listing.parent / words[0]
        if not path.is_file():
            raise Problem(f"{listing}, line {number}: there is no patch {words[0]}")
        if words[1:] not in ([], ["-p1"]):
            raise Problem(
                f"{listing}, line {number}: {' '.join(words[1:])}",
                expected="patches that are applied with -p1",
            )
        found.append(path)
    return found


def _file(path: Path) -> Series:
    if not (found := patches.read(_read(path), path.name)):
        raise Problem(
            f"{path} holds no patch",
            expected="mails with patches, such as git format-patch --stdout writes, or a diff",
        )
    suffixes = (*_SUFFIXES, ".mbox", ".mbx")
    name = path.stem if path.suffix in suffixes else path.name
    return Series(_name(name), str(path), tuple(found))


def _commits(repo: Path, commits: str) -> Series:
    where = f"commits {commits} of {repo}"
    if tools.missing("git"):
        raise Problem(f"{where} cannot be read: git is not on this machine", mend="install git")
    asked = git(repo, *_FORMAT, commits)
    if asked.returncode:
        raise Problem(
            f"git does not know {where}",
            expected="a git checkout, and two of its branches, tags or commits",
            detail=asked.stderr.decode(errors="replace"),
        )
    if not (found := patches.read(asked.stdout, commits)):
        raise Problem(f"there are no {where}", mend="give the older commit first")
    return Series(_name(commits), f"{repo.resolve()}@{commits}", tuple(found))
