# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a source tree with patch series applied to it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.host.run import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_iommufd.host.progress import Progress
    from pytest_iommufd.kernel.series.patches import Patch
    from pytest_iommufd.kernel.series.patchseries import Series

TREE_SIZE = 2_000_000_000
"""Bytes of a copy that shares nothing."""
_PATCH = (
    "patch",
    "-p1",
    "--batch",
    "--forward",
    "--fuzz=0",
    "--get=0",
    "--no-backup-if-mismatch",
    "--quoting-style=literal",
    "--reject-file=-",
)
_TAIL = 25
_OFTEN = 500
_APPLIED = "it is applied already, or the other way round"
_MISSING = "there is no such file"
_CREATED = "it is to be created and is there already"
# Lines of GNU patch about the file that it named last.
_LATER = (
    (re.compile(r"Hunk #(\d+) FAILED at (\d+)"), "hunk {} does not match at line {}"),
    (re.compile(r"Reversed \(or previously applied\) patch detected"), _APPLIED),
    (re.compile(r"which already exists!"), _CREATED),
    (re.compile(r"which does not exist!"), _MISSING),
    (re.compile(r"No file to patch\."), _MISSING),
)
# Lines that name the file they are about, and what they say about it if they do.
_NAMING = (
    (re.compile(r"patching file (.+?)(?: \((?:renamed|copied) from .*\))?$"), ""),
    (re.compile(r"The next patch would (?:create|delete) the file (.+),$"), ""),
    (re.compile(r"\|(?:---|\+\+\+) [^/\s]+/([^\t]+)"), ""),
    (re.compile(r"Not deleting file (.+) as content differs"), "its content is not what goes"),
    (re.compile(r"File (.+): git binary diffs are not supported"), "a binary diff"),
    (re.compile(r"File (.+) is not a regular file"), "it is no regular file"),
)


def copy(
    tree: Path, destination: Path, series: Iterable[Series], progress: Progress, *, share: bool
) -> None:
    """Copy a source tree, without its git history, for patches to be applied to the copy.

    Modification times are kept, so that make sees what is new.

    Args:
        tree: the source tree, only read.
        destination: where to; it must not exist.
        series: what will be applied.
        progress: told that it goes on.
        share: whether files that no patch touches may be hard links to those of the tree, because
            no one will edit them there.

    Raises:
        OSError: it cannot be read or written.
    """
    touched = {name for one in series for patch in one.patches for name in patch.files}
    count = 0

    def put(source: str, target: str) -> None:
        nonlocal count
        count += 1
        if count % _OFTEN == 0:
            progress.update(f"{count} files")
        # What patch writes to must be a file of its own, whichever way it writes.
        if share and os.path.relpath(source, tree) not in touched:
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP):
                    raise
            else:
                return
        shutil.copy2(source, target)

    walk(tree, destination, put, skip=(".git",))


def walk(
    source: Path, target: Path, put: Callable[[str, str], object], skip: tuple[str, ...] = ()
) -> None:
    """Copy a folder; unlike shutil.copytree, stop at the first error and say which it was.

    Args:
        source: the folder.
        target: where to; it must not exist.
        put: copies a file.
        skip: names in the folder, and not deeper, that are left out.

    Raises:
        OSError: it cannot be read or written.
    """
    target.mkdir()
    with os.scandir(source) as scan:
        for entry in scan:
            if entry.name in skip:
                continue
            there = target / entry.name
            if entry.is_symlink():
                there.symlink_to(os.readlink(entry))  # noqa: PTH115 - Path would drop a "./" of it
            elif entry.is_dir():
                walk(Path(entry), there, put)
            elif entry.is_file():
                put(entry.path, os.fspath(there))


def apply(series: Series, tree: Path, source: str, progress: Progress) -> None:
    """Apply a series.

    Args:
        series: the series.
        tree: a copy made with `copy`; after a failure it is of no use.
        source: what the tree is a copy of, for people.
        progress: told what is applied.

    Raises:
        Problem: a patch is malformed or does not apply; it says which, and where.
        OSError: the tree cannot be written.
    """
    for patch in series.patches:
        progress.update(patch.name)
        # beside the tree: whoever removes what a killed run left removes this too
        with tempfile.NamedTemporaryFile(dir=tree.parent, suffix=".patch") as file:
            file.write(patch.data)
            file.flush()
            status, lines = run([*_PATCH, "-d", tree, "-i", file.name], watch=progress.update)
        if status:
            if any("No space left on device" in line for line in lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise _problem(series, patch, source, lines)


def _problem(series: Series, patch: Patch, source: str, lines: list[str]) -> Problem:
    who = f'{patch.name} ("{patch.subject}") of patch series {series.name}'
    if said := re.search(r"\*\*\*\* (malformed|unexpected end|Only garbage).*", "\n".join(lines)):
        return Problem(
            f"{who} is malformed",
            expected="a unified diff as diff or git wrote it, not edited by hand",
            mend=f"make it anew: {series.origin}",
            detail=f"patch says: {said[0].removeprefix('**** ')}",
        )
    reasons = _reasons(lines)
    mend = "give the tree or the version that the series was made for"
    if reasons and all(reason.endswith((_APPLIED, _CREATED)) for reason in reasons):
        mend = "leave it out, if the source has it"
    return Problem(
        f"{who} does not apply to {source}",
        mend=mend,
        detail="\n".join(f"  {reason}" for reason in reasons or lines[-_TAIL:]),
    )


def _reasons(lines: list[str]) -> list[str]:
    """What hinders a patch, each with its file."""
    found = []
    file = ""
    for line in lines:
        for pattern, reason in _NAMING:
            if match := pattern.match(line):
                # of a deleted file the old name counts
                file = file if match[1].endswith("dev/null") else match[1]
                found += [f"{file}: {reason}"] if reason else []
        for pattern, reason in _LATER:
            if match := pattern.match(line):
                found.append(f"{file}: {reason.format(*match.groups())}")
    return found
