# SPDX-License-Identifier: GPL-2.0-only
"""A suite's rules as data: the `rules.toml` beside its tests, which docs/rules.md describes."""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.marker import ANY
from pytest_iommufd.rules.model import DOCUMENTS, RuleError
from pytest_iommufd.rules.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_iommufd.rules.model import Capability, Dialect, Rule, Source

FILE = "rules.toml"
SHARED = "capabilities.toml"
"""Beside the suites' folders: capabilities that every rules.toml has, a user's too."""


@dataclass(frozen=True)
class Catalogue:
    """The rules of a suite.

    Attributes:
        path: the file.
        title: what the rules are about.
        dialects, sources, capabilities: by name.
        rules: by slug, in the file's order.
        ladders: by name and dialect, rungs from the first check to the last.
    """

    path: Path
    title: str
    dialects: Mapping[str, Dialect]
    sources: Mapping[str, Source]
    capabilities: Mapping[str, Capability]
    rules: Mapping[str, Rule]
    ladders: Mapping[str, Mapping[str, tuple[str, ...]]]

    @classmethod
    def load(cls, path: Path) -> Catalogue:
        """Read and check a file.

        Raises:
            Problem: it cannot be read, or is not right in itself.
        """
        read = Reader(path, content(path), _shared())
        return cls(
            *(path, read.title, read.dialects, read.sources),
            *(read.capabilities, read.rules, read.ladders),
        )

    def rule(self, slug: str) -> Rule:
        """Return a rule.

        Raises:
            RuleError: there is none of that name.
        """
        found = self._find(slug)
        if found is None:
            raise RuleError(
                f"{self.path} has no rule {slug!r}", mend="add it there, or mend the test's name"
            )
        return found

    def has(self, slug: str) -> bool:
        """Tell whether there is a rule of that name."""
        return self._find(slug) is not None

    @property
    def slugs(self) -> list[str]:
        """The names of the rules, but for those that stand for many."""
        return [slug for slug in self.rules if ANY not in slug]

    def _find(self, slug: str) -> Rule | None:
        if slug in self.rules:
            return self.rules[slug]
        return next((rule for rule in self.rules.values() if rule.stands_for(slug)), None)

    def credit(self, source: str) -> str:
        """Say in words where a rule comes from."""
        name, _, place = source.partition(":")
        if name not in self.sources:
            return f"{place}() in {name}" if place else name
        found = self.sources[name]
        return f"{found.by}, {found.on}: {found.about}" + (f" ({place})" if place else "")

    def promised(self, promise: str) -> str:
        """Say in words what promises what a rule says."""
        name, _, place = promise.partition(":")
        return f"{name}, {place}" if name in DOCUMENTS else self.credit(promise)

    def link(self, source: str) -> str:
        """Return where it can be read, "" for the kernel's own functions."""
        name = source.partition(":")[0]
        return self.sources[name].link if name in self.sources else DOCUMENTS.get(name, "")


@functools.cache
def beside(folder: Path) -> Catalogue | None:
    """Return the catalogue in a suite's folder, None when it has none.

    Raises:
        Problem: it is not right.
    """
    path = folder / FILE
    return Catalogue.load(path) if path.is_file() else None


def rule_in(folder: Path, slug: str) -> Rule | None:
    """Return a rule of the catalogue in a folder, None when there is none of that name."""
    catalogue = beside(folder)
    return catalogue.rule(slug) if catalogue and catalogue.has(slug) else None


def shipped() -> Iterator[Catalogue]:
    """Return the catalogues of the suites that are installed."""
    for folder in sorted(suites().iterdir()):
        if folder.is_dir() and (catalogue := beside(folder)):
            yield catalogue


@functools.cache
def _shared() -> Mapping[str, Capability]:
    path = suites() / SHARED
    return Reader(path, {"capabilities": content(path)}, {}).capabilities


def suites() -> Path:
    """Return the folder of the suites that are installed."""
    return Path(str(resources.files("pytest_iommufd.suites")))


def content(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        Problem: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        twice = r"Cannot declare \('([^']+)',\) twice"
        said = re.sub(twice, r"rule '\1' is there twice", str(error))
        raise Problem(f"{path}: {said}") from error
