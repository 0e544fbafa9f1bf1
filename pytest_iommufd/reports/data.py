# SPDX-License-Identifier: GPL-2.0-only
"""What a run found of each rule on each kernel, as plain data: the JSON file, and the page's.

    schema, pytest_iommufd, began, seconds, exit_status
    stopped     why not all tests ran, or ""
    kernels     name, spec, release, source, acceleration, agent, dialect, dialect_about;
                undescribed: names of its header that the suites do not describe, and what they are;
                counts: how many rules have each mark
    suites      title, dialects: name, about, like
    rules       slug, suite, sentence, sources, promises or behaviour, needs, expected by dialect,
                defects and differences: what kernels are known to do instead, differs;
                results by kernel's name

SCHEMA grows when a key goes away or means something else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_iommufd.agent import build
from pytest_iommufd.rules.rerun import command
from pytest_iommufd.uapi.undescribed import undescribed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from pytest_iommufd.lab import Bench
    from pytest_iommufd.rules.catalogue import Catalogue
    from pytest_iommufd.rules.model import Defect
    from pytest_iommufd.rules.verdicts import Result, Verdicts

SCHEMA = 2


@dataclass(frozen=True)
class KernelInfo:
    """A kernel that was tested; what is not known of it is "".

    Attributes:
        name: in test ids.
        spec: as it was asked for.
        release: its `uname -r`.
        source: where it came from.
        acceleration: how it ran.
        agent: the build of the program that made the calls.
        undescribed: names of its header that the suites do not describe, and what they are.
    """

    name: str
    spec: str
    release: str = ""
    source: str = ""
    acceleration: str = ""
    agent: str = ""
    undescribed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def on(cls, bench: Bench, declared: Collection[str] = ()) -> KernelInfo:
        """Describe a bench's kernel.

        Args:
            bench: where it is tested.
            declared: names of headers that are described beside the suites.
        """
        kernel, machine = bench.kernel, bench.machine
        booted = machine.hello.release if machine.running and not kernel.release else ""
        return cls(
            name=kernel.name,
            spec=kernel.spec,
            release=kernel.release or booted,
            source=kernel.source,
            acceleration=str(machine.acceleration),
            agent=build.build_id(bench.agent),
            undescribed={
                name: kind.value
                for name, kind in (undescribed(bench.header) if bench.header else {}).items()
                if name not in declared
            },
        )


@dataclass(frozen=True)
class Run:
    """A run of pytest.

    Attributes:
        began: when, seconds since 1970.
        seconds: how long it took.
        status: its exit status.
        stopped: why it did not run all of its tests, "" when it did.
    """

    began: float
    seconds: float
    status: int
    stopped: str = ""


def gather(
    verdicts: Verdicts,
    catalogues: Iterable[Catalogue],
    kernels: Mapping[str, KernelInfo],
    run: Run,
) -> dict[str, Any]:
    """Put what is known into one tree of dicts, lists, texts and numbers.

    Args:
        verdicts: complete.
        catalogues: the rules' texts; a rule that is in none has only its name.
        kernels: by name.
        run: the run.
    """
    suites = list(catalogues)
    return {
        "schema": SCHEMA,
        "pytest_iommufd": version("pytest-iommufd"),
        "began": datetime.fromtimestamp(run.began, UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 1),
        "exit_status": run.status,
        "stopped": run.stopped,
        "kernels": [
            _kernel(verdicts, suites, kernels.get(name) or KernelInfo(name, ""))
            for name in verdicts.kernels
        ],
        "suites": [_suite(catalogue) for catalogue in suites],
        "rules": [_rule(verdicts, suites, slug) for slug in verdicts.slugs],
    }


def _kernel(verdicts: Verdicts, suites: Iterable[Catalogue], kernel: KernelInfo) -> dict[str, Any]:
    spoken = _spoken(verdicts, suites, kernel.name)
    return {
        **asdict(kernel),
        "dialect": ", ".join(spoken),
        "dialect_about": "; ".join(filter(None, spoken.values())),
        "counts": {mark.value: count for mark, count in verdicts.counts(kernel.name).items()},
    }


def _spoken(verdicts: Verdicts, suites: Iterable[Catalogue], kernel: str) -> dict[str, str]:
    """Return what the dialects of a kernel are about, by name.

    Where a suite knows several dialects, one that knows a single one has nothing to tell.
    """
    found: dict[int, dict[str, str]] = {}
    for slug in verdicts.slugs:
        name = verdicts.of(kernel, slug).dialect
        dialects = next((one.dialects for one in suites if one.has(slug)), {})
        if name:
            about = dialects[name].about if name in dialects else ""
            found.setdefault(min(len(dialects), 2), {}).setdefault(name, about)
    return found[max(found)] if found else {}


def _suite(catalogue: Catalogue) -> dict[str, Any]:
    return {
        "title": catalogue.title,
        "dialects": [asdict(dialect) for dialect in catalogue.dialects.values()],
    }


def _rule(verdicts: Verdicts, suites: Iterable[Catalogue], slug: str) -> dict[str, Any]:
    catalogue = next((one for one in suites if one.has(slug)), None)
    results = {kernel: verdicts.of(kernel, slug) for kernel in verdicts.kernels}
    return {
        "slug": slug,
        **_text(catalogue, slug),
        "differs": verdicts.differs(slug),
        "results": {
            kernel: {
                **_result(result, catalogue.path.parent if catalogue else None),
                "tests": verdicts.tests(kernel, slug),
                "differs": verdicts.differs(slug, kernel),
            }
            for kernel, result in results.items()
        },
    }


def _text(catalogue: Catalogue | None, slug: str) -> dict[str, Any]:
    """Return what a catalogue says of a rule."""
    if catalogue is None:
        nothing: dict[str, Any] = {"suite": "", "sentence": "", "sources": [], "needs": []}
        basis: dict[str, Any] = {"promises": [], "behaviour": ""}
        return {**nothing, **basis, "expected": {}, "defects": [], "differences": []}
    rule = catalogue.rule(slug)
    return {
        "suite": catalogue.title,
        "sentence": rule.says,
        "sources": [
            {"text": catalogue.credit(source), "link": catalogue.link(source)}
            for source in rule.source
        ],
        "promises": [
            {"text": catalogue.promised(promise), "link": catalogue.link(promise)}
            for promise in rule.promise
        ],
        "behaviour": rule.behaviour,
        "needs": [
            {"name": need, "meaning": catalogue.capabilities[need].meaning} for need in rule.needs
        ],
        "expected": dict(rule.expect),
        "defects": [_known(one) for one in rule.defects],
        "differences": [_known(one) for one in rule.differences],
    }


def _known(defect: Defect) -> dict[str, Any]:
    return asdict(defect) | {key: list(getattr(defect, key)) for key in ("shows", "dialects")}


def _result(result: Result, folder: Path | None) -> dict[str, Any]:
    return {
        "mark": result.mark.value,
        "expected": result.expected,
        "got": result.got,
        "gave": result.gave,
        "reason": result.reason,
        "known": result.known,
        "console": result.console,
        "calls": list(result.calls),
        "reproducers": list(result.reproducers),
        "dialect": result.dialect,
        "nodeid": result.nodeid,
        "again": command(
            Path(result.path).parent if result.path else folder,
            result.slug,
            result.spec,
            result.nodeid,
        ),
    }
