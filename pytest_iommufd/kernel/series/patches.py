# SPDX-License-Identifier: GPL-2.0-only
"""Patches, as files and mails hold them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What git and mail programs begin each mail of a file with. A sentence may begin with "From ", too,
# which git does not quote: Python's mailbox.mbox takes it for the next mail.
_MAIL = re.compile(rb"^From \S+ .*\d\d:\d\d.* \d{4}\r?\n", re.MULTILINE)
_HEADERS = re.compile(rb"(?:[A-Za-z-]+:.*\n(?:[ \t].*\n)*)+\r?\n")
_MAIL_HEADER = re.compile(rb"^(?:From|Subject|Message-Id):", re.MULTILINE | re.IGNORECASE)
_DIFF = re.compile(rb"^(?:diff --git |--- \S.*\r?\n\+\+\+ \S|Index: )", re.MULTILINE)
_FILES = re.compile(
    rb"^(?:(?:---|\+\+\+) [^/\s]+/(?P<file>[^\t\r\n]+)"
    rb"|diff --git [^/\s]+/(?P<old>\S+) [^/\s]+/(?P<new>\S+)"
    rb"|(?:rename|copy) (?:from|to) (?P<moved>[^\r\n]+))",
    re.MULTILINE,
)
_SUBJECT = re.compile(rb"^Subject: (.*)$", re.MULTILINE)
_TAGS = re.compile(r"^(?:\[[^\]]*\]\s*)+")
_REPLY = re.compile(r"(?:re|aw|sv)\s*:", re.IGNORECASE)


@dataclass(frozen=True)
class Patch:
    """A patch.

    Attributes:
        name: its file, or where it is in a file of several.
        subject: its first line for people, without `[PATCH 1/3]`.
        data: text and diff, as bytes: source files have no one encoding.
    """

    name: str
    subject: str
    data: bytes

    @property
    def files(self) -> frozenset[str]:
        """Paths in the tree that it may change; never fewer than it does."""
        found = (value for match in _FILES.finditer(self.data) for value in match.groups() if value)
        return frozenset(value.decode(errors="surrogateescape") for value in found)


def read(data: bytes, name: str) -> list[Patch]:
    """Find the patches in a file: one diff, one mail, or many mails.

    Args:
        data: the file's content.
        name: the file's name.

    Returns:
        Its patches, in order. Mails without a diff, and replies, are none.
    """
    mails = _split(data)
    if not mails:
        said = _SUBJECT.search(data)
        subject = said[1].decode(errors="replace").strip() if said else name
        return [Patch(name, _TAGS.sub("", subject), data)] if _DIFF.search(data) else []
    return [
        Patch(name if len(mails) == 1 else f"{name}, mail {number}", subject, body)
        for number, mail in enumerate(mails, 1)
        for subject, body in _parts(mail)
    ]


def is_mail(data: bytes) -> bool:
    """Tell a mail, which may do without a diff, from a bare diff.

    Args:
        data: a file's content.

    Returns:
        Whether it is one mail or more.
    """
    return bool(_split(data))


def _split(data: bytes) -> list[bytes]:
    begins = [match.start() for match in _MAIL.finditer(data)]
    if begins and not data[: begins[0]].strip():
        ends = [*begins[1:], len(data)]
        return [data[begin:end] for begin, end in zip(begins, ends, strict=True)]
    headers = _HEADERS.match(data)
    return [data] if headers and _MAIL_HEADER.search(headers[0]) else []


def _parts(mail: bytes) -> Iterator[tuple[str, bytes]]:
    """Subject and content of each diff of a mail: its body, or what is attached."""
    import email  # noqa: PLC0415 - most kernel specs have no mails
    import email.policy  # noqa: PLC0415 - likewise

    message = email.message_from_bytes(mail, policy=email.policy.default)
    subject = " ".join(str(message["Subject"] or "").split())
    if _REPLY.match(subject):
        return
    for part in message.walk():
        # not get_content(): it would decode the source files' bytes
        body = part.get_payload(decode=True) if part.get_content_maintype() == "text" else None
        if isinstance(body, bytes) and _DIFF.search(body):
            yield _TAGS.sub("", subject), body
