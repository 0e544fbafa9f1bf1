# SPDX-License-Identifier: GPL-2.0-only
"""What a document of the kernel says, in its own words, at the place that promises a rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_iommufd.rules.model import DOCUMENTS, TREE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_FRAME = re.compile(r"^\s*(?:/\*\*?|\*/|\*(?!/))[ \t]?|\s*\*/$", re.MULTILINE)
# In a comment: what ends a paragraph without an empty line.
_BEGINS = re.compile(r"\s*(?:@\w+:|- )")
_FIELD = re.compile(r"@(\w+):")
# Lines; the most that is said of a struct as a whole.
_MOST = 16


def quote(tree: Path, promise: str, about: str) -> list[str]:
    """Return the lines of a header's comment that promise something.

    Of a struct or a command these are its fields that the rule names, else what is said of it as a
    whole; of an errno or a flag the paragraphs that have it.

    Args:
        tree: the kernel's source.
        promise: a document and a place in it, as catalogues have them.
        about: the rule's sentence, and other words that may name fields.

    Returns:
        The lines without the frame of the comment; none where no comment of a header says it.
    """
    name, _, place = promise.partition(":")
    path = tree / DOCUMENTS.get(name, "").removeprefix(TREE)
    if path.suffix != ".h" or not path.is_file():
        return []
    has = re.compile(rf"\b{re.escape(place)}\b")
    comments = [one for one in _COMMENT.findall(path.read_text("utf-8")) if has.search(one)]
    if not comments:
        return []
    title = re.compile(rf"/\*\*?\s*\*?\s*(?:\w+ )?{re.escape(place)}\b")
    own = next((one for one in comments if title.match(one)), None)
    paragraphs = list(_paragraphs(_FRAME.sub("", own or comments[0])))
    if own is None:
        chosen = [one for one in paragraphs if has.search("\n".join(one))]
    else:
        words = set(re.findall(r"\w+", about))
        fields = [(match, one) for one in paragraphs if (match := _FIELD.match(one[0].strip()))]
        chosen = [one for match, one in fields if match[1] in words]
        chosen = chosen or [one for one in paragraphs[1:] if not _FIELD.match(one[0].strip())]
    lines = [line for paragraph in chosen for line in paragraph]
    return lines if len(lines) <= _MOST else [*lines[:_MOST], "[...]"]


def _paragraphs(text: str) -> Iterator[list[str]]:
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        if lines and (not line.strip() or _BEGINS.match(line)):
            yield lines
            lines = []
        if line.strip():
            lines.append(line.rstrip())
