# SPDX-License-Identifier: GPL-2.0-only
"""The Debian mirrors of this machine, and the suites on them that carry kernels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

Where = Literal["pockets", "releases", "upstream"]
"""The security, updates and backports suites, which are small; the releases themselves, whose lists
are some ten times as large; or the sources of all of these, and of what is not released."""

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Releases whose suites carry kernels for source builds, whatever this machine's own is.
RELEASES = ("bookworm", "trixie")
# Every release has these; what is none of them (a vendor's "nodistro") is no Debian mirror.
_KNOWN = ("bullseye", *RELEASES, "forky", "sid", "oldstable", "stable", "testing", "unstable")
_SUITE = re.compile(r"(?P<release>[a-z]+)(?P<pocket>-updates|-backports|-security|/updates)?")
_SECURITY = ("-security", "/updates")
# One-line sources: type, [options], address, suite, components.
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+\S")


@dataclass(frozen=True)
class Mirror:
    """An address from which this machine takes Debian suites.

    Attributes:
        uri: the address.
        release: code name of the release taken.
        security: whether its security suite is taken, which has an address of its own.
        signed_by: keyring or key for its signatures.
    """

    uri: str
    release: str
    security: bool
    signed_by: str


def find_mirrors(apt: Path = Path("/etc/apt")) -> list[Mirror]:
    """Read this machine's apt sources.

    Args:
        apt: the folder of apt's configuration.

    Returns:
        Its Debian mirrors, each once; other sources are left out.
    """
    found: dict[Mirror, None] = {}
    for uri, suite, signed_by in _entries(apt):
        match = _SUITE.fullmatch(suite.rstrip("/"))
        if match and match["release"] in _KNOWN:
            security = match["pocket"] in _SECURITY
            found[Mirror(uri, match["release"], security, signed_by or KEYRING)] = None
    return list(found)


def private_sources(mirrors: list[Mirror], where: Where) -> str:
    """Write the sources in which to look for kernels.

    Args:
        mirrors: this machine's mirrors.
        where: in which of their suites.

    Returns:
        The content of a deb822 .sources file, empty when there is no mirror for them.
    """
    stanzas: dict[tuple[str, str, str], None] = {}
    for mirror in mirrors:
        for release in dict.fromkeys((mirror.release, *RELEASES)):
            for suite in _suites(release, where, security=mirror.security):
                stanzas[mirror.uri, suite, mirror.signed_by] = None
    # One stanza a suite: a mirror that lacks one still gives the others.
    kind = "Types: deb-src\n" if where == "upstream" else "Types: deb\nArchitectures: amd64\n"
    return "\n".join(
        f"{kind}URIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {signed_by}\n"
        for uri, suite, signed_by in stanzas
    )


def _suites(release: str, where: Where, *, security: bool) -> list[str]:
    if security:
        return [] if where == "releases" else [f"{release}-security"]
    pockets = [f"{release}-updates", f"{release}-backports"]
    if where == "upstream":
        return [release, *pockets, "sid", "experimental"]
    return pockets if where == "pockets" else [release]


def _entries(apt: Path) -> Iterator[tuple[str, str, str]]:
    """Address, suite and Signed-By of each source of binary packages."""
    parts = apt / "sources.list.d"
    for path in (apt / "sources.list", *sorted(parts.glob("*.list"))):
        for line in _read(path).splitlines():
            if match := _ONE_LINE.match(line.strip()):
                signed_by = re.search(r"signed-by=(\S+)", match["options"] or "", re.IGNORECASE)
                yield match["uri"], match["suite"], signed_by[1] if signed_by else ""
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822(_read(path))


def _deb822(text: str) -> Iterator[tuple[str, str, str]]:
    from debian.deb822 import Deb822  # noqa: PLC0415 - slow to import, and only needed here

    for stanza in Deb822.iter_paragraphs(text.splitlines()):
        if stanza.get("Enabled", "yes") == "no" or "deb" not in stanza.get("Types", "").split():
            continue
        for uri in stanza.get("URIs", "").split():
            for suite in stanza.get("Suites", "").split():
                yield uri, suite, stanza.get("Signed-By", "")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""
