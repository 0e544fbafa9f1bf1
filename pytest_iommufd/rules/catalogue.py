# SPDX-License-Identifier: GPL-2.0-only
"""A suite's rules as data: the `rules.toml` beside its tests.

    title = "IOMMU_HWPT_ALLOC"

    [dialects.mainline]                     # what kernels speak; tests ask which
    about = "as Linux has it since 6.7"

    [dialects.v2]
    about = "as posted"
    like = "mainline"                       # whose results hold where none is given

    [sources.patch]                         # what rules refer to besides kernel functions
    about = "iommufd: IOMMU_HWPT_ALLOC allocation with user data, v2"
    by = "Yi Liu"
    on = 2023-05-11
    link = "https://lore.kernel.org/r/..."
    series = "hwpt-alloc-v2"                # a patch series of ours that has what it names

    [capabilities.viommu]                   # what a kernel may lack
    ioctl = "IOMMU_VIOMMU_ALLOC"            # or header = a name in it, or fixture = one that asks
    lacks = "..."                           # what to say then; only a fixture needs it

    ["hwpt_alloc.reserved"]
    says = "A bit in __reserved is refused."
    source = ["hw_pagetable.c:iommufd_hwpt_alloc", "patch:iommufd_hwpt_alloc"]
    expect = "EOPNOTSUPP"                   # or a table by dialect; "OK", an errno, "absent: why"
    needs = ["viommu"]                      # capabilities; without one the rule is absent
    defects = [                             # what kernels are known to do instead
        { gives = "OK", why = "iommufd_hwpt_alloc() ignores ...", mended = "6.13", seen = "6.12" },
        { gives = "crashed", why = "...", dialects = ["v2"] },
    ]

A kernel has a known defect if it does what `gives` says: a result, "crashed", or "violated" where
the test fails otherwise; and speaks one of the `dialects`, if there are any. `reported`, `mended`
and `seen` are for people.

A key of `expect` may be `mainline without viommu`: the result of kernels that lack a capability.

A rule's name may have `*` for a part: then it is of many rules, whose tests say their whole names,
and `expect` may be "declared": what they are made from says their results.

    [ladders."hwpt_alloc.order.nested"]     # checks in the kernel's order, a rule for each rung
    says = "with a parent"
    source = ["hw_pagetable.c:iommufd_hwpt_nested_alloc"]
    needs = { memory = ["failslab"] }       # by rung; "*" for all
    mainline = ["size EINVAL", "reserved EOPNOTSUPP"]
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.marker import ABSENT, ANY, SLUG
from pytest_iommufd.uapi import UnknownNameError, errno_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

FILE = "rules.toml"
OK = "OK"
DECLARED = "declared"
_WITHOUT = " without "
VIOLATED, CRASHED = "violated", "crashed"
_T = TypeVar("_T")
_TABLES = ("dialects", "sources", "capabilities", "ladders")


class RuleError(Problem):
    """A test's rule is not what its catalogue has: that test's fault, not the kernel's."""


@dataclass(frozen=True)
class Dialect:
    """A way to speak an ioctl.

    Attributes:
        name: short, for tables.
        about: what it is, for people.
        like: the dialect whose results hold where this one's are not given, or "".
    """

    name: str
    about: str
    like: str = ""


@dataclass(frozen=True)
class Source:
    """Where rules come from, besides the kernel's own functions.

    Attributes:
        name: what rules call it.
        about: its title or gist.
        by: who wrote it.
        on: when.
        link: where to read it.
        series: the shipped patch series that does what it says, or "".
    """

    name: str
    about: str
    by: str
    on: date
    link: str
    series: str = ""


@dataclass(frozen=True)
class Capability:
    """Something that a kernel may lack; it is asked of the kernel or of its header.

    Attributes:
        name: what rules call it.
        header: a name that the header must have, or "".
        ioctl: an ioctl that must not give ENOTTY, or "".
        fixture: a fixture that is true where the kernel has it, or "".
        lacks: the reason to give where it is lacking.
    """

    name: str
    header: str = ""
    ioctl: str = ""
    fixture: str = ""
    lacks: str = ""

    @property
    def meaning(self) -> str:
        """What a kernel must have, or what is said where it has it not."""
        if self.header:
            return f"{self.header} in the kernel's header"
        return self.ioctl or f"absent where: {self.lacks}"


@dataclass(frozen=True)
class Defect:
    """What some kernels are known to do instead of what a rule says.

    Attributes:
        gives: "OK" or an errno's name; "crashed"; or "violated": checks of the test fail otherwise.
        why: what in the kernel is wrong.
        dialects: those that have it, all when there are none.
        reported, mended, seen: where it was reported, what mended it, in which releases it was
            seen: for people only, a kernel is known to have a defect by what it does.
    """

    gives: str
    why: str
    dialects: tuple[str, ...] = ()
    reported: str = ""
    mended: str = ""
    seen: str = ""


@dataclass(frozen=True)
class Rule:
    """What a kernel must do.

    Attributes:
        slug: its name for ever.
        says: the rule, one sentence.
        sources: kernel functions (`file.c:function`) and names of sources (`name`, `name:place`).
        expect: result by dialect, or by `dialect without capability`: "OK", an errno's name, or
            "absent: " and why.
        needs: names of capabilities.
        defects: what kernels are known to do instead.
    """

    slug: str
    says: str
    sources: tuple[str, ...]
    expect: Mapping[str, str]
    needs: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()

    def defects_of(self, dialect: str) -> tuple[Defect, ...]:
        """Return what a kernel of a dialect may be known to do instead."""
        return tuple(one for one in self.defects if not one.dialects or dialect in one.dialects)

    def expected(self, dialect: str, lacks: Callable[[str], str]) -> str:
        """Tell what a kernel must do.

        Args:
            dialect: what the kernel speaks.
            lacks: why the kernel lacks a capability, "" when it has it.

        Returns:
            "OK", an errno's name, or "absent: " and the reason.
        """
        if self.expect[dialect].startswith(ABSENT):
            return self.expect[dialect]
        for need in self.needs:
            if reason := lacks(need):
                return ABSENT + reason
        for key, result in self.expect.items():
            name, _, capability = key.partition(_WITHOUT)
            if name == dialect and capability and lacks(capability):
                return result
        return self.expect[dialect]


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
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise Problem(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Problem(f"{path}: {_plain_toml_error(str(error))}") from error
        return _Reader(path, content).read()

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
        return next((rule for name, rule in self.rules.items() if _stands_for(name, slug)), None)

    def credit(self, source: str) -> str:
        """Say in words where a rule comes from."""
        name, _, place = source.partition(":")
        if name not in self.sources:
            return f"{place}() in {name}" if place else name
        found = self.sources[name]
        return f"{found.by}, {found.on}: {found.about}" + (f" ({place})" if place else "")

    def link(self, source: str) -> str:
        """Return where what a rule comes from can be read, "" for the kernel's own functions."""
        found = self.sources.get(source.partition(":")[0])
        return found.link if found else ""


@functools.cache
def beside(folder: Path) -> Catalogue | None:
    """Return the catalogue in a suite's folder, None when it has none.

    Raises:
        Problem: it is not right.
    """
    path = folder / FILE
    return Catalogue.load(path) if path.is_file() else None


def shipped() -> Iterator[Catalogue]:
    """Return the catalogues of the suites that are installed."""
    for folder in sorted(Path(str(resources.files("pytest_iommufd.suites"))).iterdir()):
        if folder.is_dir() and (catalogue := beside(folder)):
            yield catalogue


def _stands_for(name: str, slug: str) -> bool:
    """Tell whether a name with `*` for some parts is that of a rule."""
    parts, given = name.split("."), slug.split(".")
    return (
        ANY in parts
        and len(parts) == len(given)
        and all(part in (ANY, other) for part, other in zip(parts, given, strict=True))
    )


def _plain_toml_error(text: str) -> str:
    """Say what tomllib says of a table that is there twice, in our words."""
    twice = re.fullmatch(r"Cannot declare \('(?P<slug>[^']+)',\) twice (?P<where>\(.*\))", text)
    return f"rule {twice['slug']!r} is there twice {twice['where']}" if twice else text


def _is_errno(name: str) -> bool:
    try:
        return errno_number(name) > 0
    except UnknownNameError:
        return False


class _Reader:
    """Turns a file's content into a catalogue, or says what is wrong with it."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path = path
        self._content = content

    def read(self) -> Catalogue:
        content = self._content
        self._dialects = {
            name: self._make(Dialect, f"dialects.{name}", name=name, **values)
            for name, values in content.get("dialects", {}).items()
        }
        if not self._dialects:
            self._fail("no dialects", "a table [dialects.NAME] for each way to speak the ioctl")
        for dialect in self._dialects.values():
            if dialect.like:
                self._known_dialect(f"dialects.{dialect.name}", dialect.like)
        self._sources = {
            name: self._make(Source, f"sources.{name}", name=name, **values)
            for name, values in content.get("sources", {}).items()
        }
        self._capabilities = {
            name: self._capability(name, values)
            for name, values in content.get("capabilities", {}).items()
        }
        rules = {
            slug: self._rule(slug, values)
            for slug, values in content.items()
            if slug not in _TABLES and isinstance(values, dict)
        }
        ladders = {}
        for name, values in content.get("ladders", {}).items():
            ladder, rungs = self._ladder(name, dict(values))
            ladders[name] = ladder
            rules |= rungs
        return Catalogue(
            self._path,
            str(content.get("title", self._path.parent.name)),
            self._dialects,
            self._sources,
            self._capabilities,
            rules,
            ladders,
        )

    def _fail(self, what: str, expected: str = "") -> None:
        raise Problem(f"{self._path}: {what}", expected=expected)

    def _make(self, kind: Callable[..., _T], where: str, **values: Any) -> _T:
        try:
            return kind(**values)
        except TypeError as error:
            raise Problem(
                f"{self._path}: [{where}]: {str(error).partition('__init__() ')[2]}"
            ) from None

    def _capability(self, name: str, values: dict[str, str]) -> Capability:
        made: Capability = self._make(Capability, f"capabilities.{name}", name=name, **values)
        if bool(made.header) + bool(made.ioctl) + bool(made.fixture) != 1:
            self._fail(f"capability {name!r}", "one of header, ioctl and fixture")
        if made.fixture and not made.lacks:
            self._fail(
                f"capability {name!r} has no 'lacks'", "what to say when its fixture is false"
            )
        return made

    def _rule(self, slug: str, values: dict[str, Any]) -> Rule:
        if not SLUG.fullmatch(slug.replace(f".{ANY}", ".any")):
            self._fail(
                f"{slug!r} is no rule's name", "letters, digits, '_', '-', with dots between"
            )
        values = {"says": "", "source": [], "expect": "", **values}
        sources = tuple(values.pop("source"))
        given = values.pop("expect")
        expect = {"": given} if isinstance(given, str) else given
        rule: Rule = self._make(
            Rule,
            slug,
            slug=slug,
            sources=sources,
            expect=self._expect(slug, expect),
            needs=tuple(values.pop("needs", ())),
            defects=tuple(self._defect(slug, one) for one in values.pop("defects", ())),
            **values,
        )
        if not rule.says.endswith("."):
            self._fail(f"rule {slug!r} has no sentence", "says = a sentence with a full stop")
        self._check_sources(slug, sources)
        for need in rule.needs:
            self._known_capability(slug, need)
        return rule

    def _defect(self, slug: str, values: dict[str, Any]) -> Defect:
        dialects = tuple(values.pop("dialects", ()))
        for dialect in dialects:
            self._known_dialect(slug, dialect)
        made: Defect = self._make(Defect, slug, dialects=dialects, **values)
        if made.gives not in (OK, VIOLATED, CRASHED) and not _is_errno(made.gives):
            self._fail(
                f"rule {slug!r} has a defect that gives {made.gives!r}",
                f"'{OK}', an errno's name, '{VIOLATED}' or '{CRASHED}'",
            )
        return made

    def _expect(self, slug: str, given: dict[str, str]) -> dict[str, str]:
        """Give each dialect its result."""
        for key, result in given.items():
            dialect, _, capability = key.partition(_WITHOUT)
            if key:
                self._known_dialect(slug, dialect)
            if capability:
                self._known_capability(slug, capability)
            declared = result == DECLARED and ANY in slug
            known = declared or result == OK or result.startswith(ABSENT) or _is_errno(result)
            if not known:
                self._fail(
                    f"rule {slug!r} expects {result!r}, which is no errno",
                    f"'{OK}', an errno's name, or '{ABSENT}' and why",
                )
        whole = {key: result for key, result in given.items() if _WITHOUT in key}
        for name in self._dialects:
            inherited = given.get(self._speaks_like(name, given))
            if inherited is None:
                self._fail(f"rule {slug!r} has no result for dialect {name!r}")
            else:
                whole[name] = inherited
        return whole

    def _speaks_like(self, name: str, given: Mapping[str, object]) -> str:
        """Return the nearest dialect that something is given for, "" if there is none."""
        while name and name not in given:
            name = self._dialects[name].like
        return name

    def _check_sources(self, slug: str, sources: tuple[str, ...]) -> None:
        if not sources:
            self._fail(f"rule {slug!r} has no source")
        for source in sources:
            name, _, place = source.partition(":")
            if name not in self._sources and not (place and re.fullmatch(r"[\w/-]+\.[ch]", name)):
                self._fail(
                    f"rule {slug!r} has the source {source!r}, which names nothing",
                    "file.c:function, or one of: " + ", ".join(self._sources),
                )

    def _known_dialect(self, where: str, name: str) -> None:
        if name not in self._dialects:
            self._fail(
                f"{where!r} names the dialect {name!r}, which nobody speaks",
                "one of: " + ", ".join(self._dialects),
            )

    def _known_capability(self, slug: str, name: str) -> None:
        if name not in self._capabilities:
            self._fail(
                f"rule {slug!r} needs the capability {name!r}, which is not known",
                "one of: " + ", ".join(self._capabilities),
            )

    def _ladder(
        self, name: str, values: dict[str, Any]
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, Rule]]:
        says, sources = values.pop("says", ""), values.pop("source", [])
        needs = values.pop("needs", {})
        given: dict[str, dict[str, str]] = {}
        for dialect, rungs in values.items():
            self._known_dialect(f"ladders.{name}", dialect)
            given[dialect] = dict(self._rung(name, rung) for rung in rungs)
        results = {}
        for spoken in self._dialects:
            results[spoken] = given.get(self._speaks_like(spoken, given), {})
        rungs = dict.fromkeys(rung for known in given.values() for rung in known)
        return {dialect: tuple(known) for dialect, known in results.items()}, {
            f"{name}.{rung}": self._rule(
                f"{name}.{rung}",
                {
                    "says": f"Of two errors in one call {says}, {rung} is told before what is "
                    "checked later.",
                    "source": sources,
                    "needs": [*needs.get("*", ()), *needs.get(rung, ())],
                    "expect": {
                        dialect: known.get(rung, f"{ABSENT}there is no such check")
                        for dialect, known in results.items()
                    },
                },
            )
            for rung in rungs
        }

    def _rung(self, ladder: str, text: str) -> tuple[str, str]:
        name, _, result = text.partition(" ")
        if not result:
            self._fail(f"ladder {ladder!r}: {text!r}", "a rung's name, a space, and its errno")
        return name, result
