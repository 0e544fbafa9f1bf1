# SPDX-License-Identifier: GPL-2.0-only
"""Each known defect of the catalogues is shown by a kernel, and by another the rule is held."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import test_dialects
from mended import INTEL, MENDED, MENDED_IN, NESTING, SHOWN_IN
from mutant import Batch, batches

from pytest_iommufd.reports import runs
from pytest_iommufd.rules.catalogue import shipped
from pytest_iommufd.rules.verdicts import Mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_iommufd.reports.history import Given

RULES, SUITES = {}, {}
for catalogue in shipped():
    RULES |= {slug: rule for slug, rule in catalogue.rules.items() if rule.defects}
    SUITES |= dict.fromkeys(catalogue.rules, catalogue.path.parent.name)
RELEASES = re.compile(r"\d+\.\d+(\.\d+)?(, \d+\.\d+(\.\d+)?)*")


def rule_of(name: str) -> str:
    """Return the rule with defects that a name stands for, or the name."""
    return next((slug for slug, rule in RULES.items() if rule.stands_for(name)), name)


def is_expected(slug: str, release: str) -> bool:
    """Tell whether a release shows a rule's defect: by the history, which lists what differs."""
    history = runs.load()
    if release not in history.kernels:
        pytest.skip(f"the history does not have {release}")
    if slug in history.rules:
        return history.rules[slug].results[release].mark is Mark.DEFECT
    return any(one.seen for one in RULES[slug].defects)


def chosen(slugs: Iterable[str]) -> list[str]:
    return [f"--rule={slug}" for slug in slugs]


def suites_of(slugs: Iterable[str]) -> set[str]:
    return {SUITES[rule_of(slug)] for slug in slugs}


# ---- each has both: in the history, on a kernel that is run here, or by an edit ----


def in_history(mark: Mark) -> Iterator[tuple[str, str, Given]]:
    """Return what has a verdict: rule, release, and what it gave."""
    for slug, rule in runs.load().rules.items():
        for release, given in rule.results.items():
            if given.mark is mark:
                yield rule_of(slug), release, given


def test_each_rule_with_a_defect_holds_somewhere() -> None:
    named = " ".join((*(mutant.rules for mutant in MENDED), *MENDED_IN.values())).split()
    held = {slug for slug, _, _ in in_history(Mark.HOLDS)}
    assert {rule_of(name) for name in named} <= set(RULES)
    assert {rule_of(name) for name in named} | held >= set(RULES)


def test_each_defect_is_shown_somewhere() -> None:
    posted = test_dialects.KERNELS[test_dialects.AS_POSTED]
    known = {slug for slug, _, _ in in_history(Mark.DEFECT)}
    for slug, rule in RULES.items():
        for defect in rule.defects:
            if defect.seen:
                assert RELEASES.fullmatch(defect.seen), slug
                here = re.search(r"\b(6\.12|7\.3)\b", defect.seen)
                assert here or slug in known, slug
            else:
                assert slug in test_dialects.DEFECTS
                assert defect.dialects == (posted,), slug


# ---- it is shown ----


@pytest.mark.parametrize("kernel", SHOWN_IN)
def test_a_kernel_shows_what_its_release_was_seen_with(
    pytester: pytest.Pytester, kernel: str
) -> None:
    release, results = _run(pytester, kernel, SHOWN_IN[kernel], RULES)
    ran = {slug: mark for slug, mark in results.items() if mark not in ("absent", "not run")}
    shown = {rule_of(slug) for slug, mark in ran.items() if mark == "known defect"}
    assert set(ran.values()) == {"known defect", "holds"}
    assert shown == {slug for slug in map(rule_of, ran) if is_expected(slug, release)}


# ---- and is gone ----


@pytest.mark.parametrize("batch", batches(("", mutant) for mutant in MENDED), ids=str)
def test_a_defect_that_is_mended_shows_no_more(
    batch: Batch, run_edited: Callable[..., pytest.RunResult]
) -> None:
    assert marked("holds", batch, run_edited) == batch.slugs


@pytest.mark.parametrize("kernel", MENDED_IN, ids=lambda spec: spec.rpartition("/")[2])
def test_a_kernel_without_a_defect_holds_the_rule(pytester: pytest.Pytester, kernel: str) -> None:
    slugs = MENDED_IN[kernel].split()
    options = INTEL if kernel.startswith(NESTING) else ""
    _, results = _run(pytester, kernel, options, slugs)
    assert {slug: results[slug] for slug in slugs} == dict.fromkeys(slugs, "holds")


def marked(mark: str, batch: Batch, run_edited: Callable[..., pytest.RunResult]) -> set[str]:
    """Run a batch's rules on the edited kernel; return which have a verdict."""
    options = ["-v", *batch.options, *chosen(batch.slugs)]
    result = run_edited(batch.spec, batch.apply, *options, suites=suites_of(batch.slugs))
    return set(re.findall(rf"^(\S+) +{mark}", result.stdout.str(), re.MULTILINE))


def _run(
    pytester: pytest.Pytester, kernel: str, options: str, slugs: Iterable[str]
) -> tuple[str, dict[str, str]]:
    """Run rules on a kernel; return its release, and each rule's mark."""
    slugs = list(slugs)
    file = pytester.path / "rules.json"
    pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", f"--kernel={kernel}", "--rules-json", str(file)),
        *(*options.split(), *chosen(slugs)),
        *("--pyargs", *(f"pytest_iommufd.suites.{suite}" for suite in suites_of(slugs))),
    )
    data: dict[str, Any] = json.loads(file.read_text())
    (given,) = data["kernels"]
    marks = {rule["slug"]: rule["results"][given["name"]]["mark"] for rule in data["rules"]}
    return given["release"], marks
