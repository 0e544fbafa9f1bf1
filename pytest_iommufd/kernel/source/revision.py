# SPDX-License-Identifier: GPL-2.0-only
"""Which commit of a git checkout a revision names."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel.source.git import git

if TYPE_CHECKING:
    from pathlib import Path

SHORT = 12
"""Digits of a hash that name a commit for people, as kernel people write them."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]")
_NAME_LENGTH = 64
_REFS = ("refs/tags", "refs/heads", "refs/remotes")
_NEEDED = ("Kconfig", "Makefile")
_EXPECTED = "a tag, branch or commit of that checkout"


def find(checkout: Path, text: str) -> tuple[str, str]:
    """Tell which commit the beginning of a text names; a `+` may be part of a branch's name.

    Args:
        checkout: a git checkout of Linux, which may be bare and is only read; its worktree may
            be in any state.
        text: `REV` or `REV+SERIES`; the longest `REV` that is a commit counts.

    Returns:
        `REV` as written, and the commit's hash.

    Raises:
        Problem: it names no commit, or one without a source tree of Linux; or the folder is no
            checkout, or git refuses to read it or is missing.
    """
    _check(checkout)
    words = text.split("+")
    for end in range(len(words), 0, -1):
        revision = "+".join(words[:end])
        if commit := _commit(checkout, revision):
            _check_tree(checkout, revision, commit)
            return revision, commit
    raise _unknown(checkout, words[0])


def name(checkout: Path, revision: str, commit: str) -> str:
    """Name a commit in test ids.

    Args:
        checkout: where it is.
        revision: how the user named it.
        commit: its hash.

    Returns:
        Such as `linux@v6.18`, or `linux@0123456789ab` where the user gave a hash.
    """
    is_hash = re.fullmatch(r"[0-9a-fA-F]+", revision) and commit.startswith(revision.lower())
    short = commit[:SHORT] if is_hash else revision
    folder = checkout.name.removesuffix(".git") or "tree"
    return "@".join(_NOT_IN_NAMES.sub("_", part)[:_NAME_LENGTH] for part in (folder, short))


def describe(checkout: Path, commit: str) -> str:
    """Name a commit for people.

    Args:
        checkout: where it is.
        commit: its hash.

    Returns:
        Such as `commit 0123456789ab (v6.18) of /x/linux`.
    """
    asked = git(checkout, "describe", "--tags", f"--abbrev={SHORT}", commit)
    tag = f" ({_text(asked.stdout)})" if asked.returncode == 0 else ""
    return f"commit {commit[:SHORT]}{tag} of {checkout}"


def _check(checkout: Path) -> None:
    try:
        asked = git(checkout, "rev-parse", "--show-prefix")
    except OSError as error:
        raise Problem(
            f"commits of {checkout} cannot be read: git is not on this machine", mend="install git"
        ) from error
    if asked.returncode:
        raise Problem(
            f"not a git checkout: {checkout}",
            expected="TREE@REV, where TREE is the top folder of a git checkout of Linux",
            detail=_text(asked.stderr),
        )
    if below := _text(asked.stdout):
        raise Problem(
            f"not the top folder of a git checkout: {checkout} is its folder {below}",
            mend="put the checkout's top folder in front of the @",
        )


def _commit(checkout: Path, revision: str) -> str:
    """The hash of a commit, empty when there is none."""
    asked = git(checkout, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    return "" if asked.returncode else _text(asked.stdout)


def _check_tree(checkout: Path, revision: str, commit: str) -> None:
    asked = git(checkout, "ls-tree", "--full-tree", "--name-only", commit, *_NEEDED)
    listed = _text(asked.stdout).split()
    if missing := [name for name in _NEEDED if name not in listed]:
        raise Problem(
            f"not a Linux source tree: {revision} of {checkout} has no {' and no '.join(missing)}",
            expected="a commit that has the kernel's sources",
            detail=_text(asked.stderr),
        )


def _unknown(checkout: Path, revision: str) -> Problem:
    what = f"no such revision of {checkout}: {revision!r}"
    if ".." in revision:
        return Problem(
            what,
            expected="one commit",
            mend=f"a range of commits is a series: {checkout}+{revision}",
        )
    refs = _text(git(checkout, "for-each-ref", "--format=%(refname:short)", *_REFS).stdout)
    if near := difflib.get_close_matches(revision, refs.split(), n=3):
        what += f"; did you mean {' or '.join(near)}?"
    fetch = f"git -C {checkout} fetch --tags"
    if _text(git(checkout, "rev-parse", "--is-shallow-repository").stdout) == "true":
        what += "; the clone is shallow, so it lacks older commits"
        fetch += " --unshallow"
    return Problem(what, expected=_EXPECTED, mend=f"{fetch}, if its origin has it")


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()
