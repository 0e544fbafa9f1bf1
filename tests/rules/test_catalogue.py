# SPDX-License-Identifier: GPL-2.0-only
"""A suite's rules.toml: what it gives, and what is said of one that is not right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules.catalogue import Catalogue, beside
from pytest_iommufd.rules.model import RuleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[[str], Catalogue]

RIGHT = """
title = "AREA"
[dialects.posted]
about = "as it was posted"
[dialects.review]
about = "as it was asked for"
like = "posted"
[sources.patch]
about = "a patch"
by = "Somebody"
on = 2023-05-11
link = "https://lore.kernel.org/r/1@x"
[capabilities.thing]
ioctl = "IOMMU_THING"
[capabilities.asked]
fixture = "asks"
lacks = "nobody answers"
"""
RULE = """
["area.one"]
says = "It holds."
source = ["main.c:f", "patch:g"]
expect = { mainline = "OK", posted = "EINVAL", "mainline without thing" = "absent: of no use" }
needs = ["asked"]
defects = [{ gives = "crashed", why = "for a reason", shows = ["a panic"], dialects = ["posted"] }]
"""
SHARED_DEFECT = """
[[defects.thing]]
gives = "E2BIG"
why = "a thing"
[[defects.thing]]
gives = "EFAULT"
why = "another"
"""
LADDER = """
[ladders."area.order"]
says = "IOMMU_X from a parent"
source = ["main.c:f"]
errors = { first = "a size of 1", second = "a long size", third = "no memory" }
differences = { third = [{ gives = "OK", why = "it takes no memory" }] }
needs = { "*" = ["asked"], third = ["thing"] }
mainline = ["first EINVAL", "second E2BIG", "third ENOMEM"]
posted = ["second EFAULT", "first EINVAL"]
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a catalogue of this text."""

    def make(text: str) -> Catalogue:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return Catalogue.load(path)

    return make


def lacking(*names: str) -> Callable[[str], str]:
    return lambda name: f"no {name}" if name in names else ""


def test_each_dialect_has_its_result(load: Load) -> None:
    rule = load(RIGHT + RULE).rule("area.one")
    results = {
        dialect: rule.expected(dialect, lacking()) for dialect in ("mainline", "posted", "review")
    }
    assert results == {"mainline": "OK", "posted": "EINVAL", "review": "EINVAL"}


def test_mainline_and_what_many_suites_need_are_there(load: Load) -> None:
    catalogue = load('["a.b"]\nsays = "So."\nsource = ["f.c:f"]\nexpect = "OK"\nneeds = ["viommu"]')
    assert catalogue.rule("a.b").expected("mainline", lacking()) == "OK"
    assert catalogue.capabilities["viommu"].ioctl == "IOMMU_VIOMMU_ALLOC"


def test_a_kernel_may_lack_what_a_rule_needs(load: Load) -> None:
    rule = load(RIGHT + RULE).rule("area.one")
    assert rule.expected("mainline", lacking("thing")) == "absent: of no use"
    assert rule.expected("posted", lacking("thing")) == "EINVAL"
    assert rule.expected("mainline", lacking("asked", "thing")) == "absent: no asked"


def test_a_ladder_has_a_rule_for_each_rung(load: Load) -> None:
    catalogue = load(RIGHT + LADDER)
    assert catalogue.ladders["area.order"] == {
        "mainline": ("first", "second", "third"),
        "posted": ("second", "first"),
        "review": ("second", "first"),
    }
    assert list(catalogue.rules) == ["area.order.first", "area.order.second", "area.order.third"]
    second, third = catalogue.rule("area.order.second"), catalogue.rule("area.order.third")
    assert second.expect == {"mainline": "E2BIG", "posted": "EFAULT", "review": "EFAULT"}
    assert third.expect["posted"].startswith("absent: ")
    assert (second.needs, third.needs) == (("asked",), ("asked", "thing"))
    assert second.source == ("main.c:f",)
    assert [one.why for one in third.differences] == ["it takes no memory"]
    later = "or an error that is checked after that."
    assert [rule.says for rule in catalogue.rules.values()] == [
        f"IOMMU_X from a parent reports a size of 1 (EINVAL) rather than a long size, {later}",
        "IOMMU_X from a parent reports a long size (E2BIG) rather than no memory.",
        "IOMMU_X from a parent reports no memory (ENOMEM) only if nothing else is wrong.",
    ]


def test_a_defect_of_several_rules_is_listed_by_name(load: Load) -> None:
    catalogue = load(RIGHT + SHARED_DEFECT + RULE.replace("defects = [", 'defects = ["thing", '))
    assert [one.gives for one in catalogue.rule("area.one").defects] == [
        "E2BIG",
        "EFAULT",
        "crashed",
    ]


def test_a_source_is_credited(load: Load) -> None:
    catalogue = load(RIGHT)
    assert catalogue.credit("main.c:f") == "f() in main.c"
    assert catalogue.credit("patch") == "Somebody, 2023-05-11: a patch"
    assert catalogue.credit("patch:g") == "Somebody, 2023-05-11: a patch (g)"
    assert (catalogue.link("main.c:f"), catalogue.link("patch:g")) == (
        "",
        "https://lore.kernel.org/r/1@x",
    )


def test_a_rule_is_found_by_its_former_names(load: Load) -> None:
    catalogue = load(RIGHT + RULE + 'aliases = ["area.former"]\n')
    assert catalogue.rule("area.former").slug == "area.one"
    assert catalogue.slugs == ["area.one"]


def test_a_rule_of_another_name_is_told(load: Load) -> None:
    with pytest.raises(RuleError, match=r"rules\.toml has no rule 'area\.two'"):
        load(RIGHT + RULE).rule("area.two")


def test_a_folder_need_not_have_one(tmp_path: Path) -> None:
    assert beside(tmp_path) is None


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        pytest.param(old, new, what, id=name)
        for name, old, new, what in [
            ("no TOML", "[dialects.posted]", "[dialects", ": "),
            ("twice", LADDER, RULE, "rule 'area.one' is there twice"),
            ("no table", 'title = "AREA"', "area = 1", "area = 1"),
            ("no tables", "[dialects.posted]", "[dialects]", "dialects.about = "),
            ("no errno", '"EINVAL"', '"EINVALID"', "[area.one] expects 'EINVALID', which is no"),
            ("no errno of a rung", "first EINVAL", "first NONE", "[area.order.first] expects"),
            ("no errno at a rung", "first EINVAL", "first", "[ladders.area.order]: 'first'"),
            ("expect", 'posted = "EINVAL"', 'pasted = "EINVAL"', "[area.one] has an unknown dial"),
            ("no text", '"absent: of no use"', "7", "[area.one] expects 7"),
            ("defect's", 'dialects = ["p', 'dialects = ["r', "unknown dialect: 'rosted'; did you"),
            ("defects", 'fixture = "asks"', 'fixture = "asks"\n[defects]\na = 7', "no lists of ta"),
            ("no such", "defects = [{", 'defects = ["thing", {', "unknown defect: 'thing'"),
            ("gives", '"crashed"', '"lost"', "[area.one] has a defect that gives 'lost'"),
            ("shows nothing", 'shows = ["a panic"], ', "", "gives 'crashed' and no 'shows'"),
            ("shows too much", '"crashed"', '"E2BIG"', "gives 'E2BIG' and 'shows'"),
            ("no pattern", '"a panic"', '"(a panic"', "shows '(a panic': missing )"),
            ("no why", ', why = "for a reason"', "", "[area.one.defects] has no 'why'"),
            ("no defects", '[{ gives = "crashed"', '[7, { gives = "crashed"', "defects = [7, "),
            ("ladder", "posted = [", "pasted = [", "[ladders.area.order] has an unknown dialect"),
            ("like", 'like = "posted"', 'like = "rosted"', "unknown dialect: 'rosted'"),
            ("missing", ', posted = "EINVAL"', "", "no result for dialect 'posted'"),
            ("without", "without thing", "without think", "unknown capability: 'think'"),
            ("needs", 'needs = ["asked"]', 'needs = ["think"]', "unknown capability: 'think'"),
            ("no list", 'needs = ["asked"]', 'needs = "asked"', "[area.one]: needs = 'asked'"),
            ("rung's needs", 'third = ["thing"]', 'third = ["think"]', "capability: 'think'"),
            ("no needs", '{ "*" = ["asked"], third = ["thing"] }', "[]", "needs = []"),
            ("source", '"patch:g"', '"patsh:g"', "source: 'patsh'; did you mean patch?"),
            ("no place", '"main.c:f", "p', '"main.c", "p', "unknown source: 'main.c'"),
            ("no source", '["main.c:f", "patch:g"]', "[]", "[area.one] has no source"),
            ("unknown key", "needs = [", "neds = [", "key: 'neds'; did you mean needs?"),
            ("source's key", 'about = "a patch"', 'abut = "a patch"', "[sources.patch]"),
            ("no date", "2023-05-11", '"in May"', "[sources.patch]: on = 'in May'"),
            ("no sentence", 'says = "It holds."', "", "[area.one] has no 'says'"),
            ("no full stop", "It holds.", "It holds", "[area.one]: says = 'It holds'"),
            ("slug", '"area.one"', '"area one"', "'area one' is no rule's name"),
            ("capability", 'fixture = "asks"', "", "capability 'asked'"),
            ("no lack", 'lacks = "nobody answers"', "", "capability 'asked' has no 'lacks'"),
            (
                "both",
                'needs = ["asked"]',
                'promise = ["patch"]\nbehaviour = "it"',
                "is promised and mere beh",
            ),
            (
                "promised",
                "needs = [",
                'promise = ["patch"]\ndifferences = [{ gives = "OK", why = "it" }]\nneeds = [',
                "is promised and has differences",
            ),
            ("difference", '{ gives = "OK"', '{ gives = "on"', "has a difference that gives 'on'"),
            ("no error", ', second = "a long size"', "", "has no errors.second"),
            ("rung's error", 'third = "no memory"', 'fifth = "no memory"', "unknown rung: 'fifth'"),
            ("promise", 'needs = ["asked"]', 'promise = ["pitch"]', "'pitch'; did you mean patch?"),
            ("nowhere", 'needs = ["asked"]', 'promise = ["vfio.h"]', "promise = 'vfio.h'"),
            ("alias", "needs = [", 'aliases = ["area.one"]\nneeds = [', "is a rule's name already"),
            ("shared", "capabilities.thing", "capabilities.viommu", "'viommu' is a shared one"),
        ]
    ],
)
def test_what_is_wrong_is_told_with_its_file(
    load: Load, tmp_path: Path, old: str, new: str, what: str
) -> None:
    right = RIGHT + RULE + LADDER
    load(right)
    assert old in right
    with pytest.raises(Problem) as caught:
        load(right.replace(old, new, 1))
    assert str(tmp_path / "rules.toml") in caught.value.what
    assert what in caught.value.what


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.mkdir()
    with pytest.raises(Problem, match=r"cannot read .*/rules\.toml: Is a directory"):
        Catalogue.load(path)
    path.rmdir()
    path.write_bytes(b"\xff")
    with pytest.raises(Problem, match=r"rules\.toml"):
        Catalogue.load(path)
