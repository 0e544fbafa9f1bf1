# SPDX-License-Identifier: GPL-2.0-only
"""The ledger names every result of the kernel's C selftest, and rules that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.kernel import resolve
from pytest_iommufd.rules.parity import load

if TYPE_CHECKING:
    from pathlib import Path


def results_of_the_c_selftest() -> set[str]:
    tree = resolve("7.3").tree
    assert tree
    found = set()
    for program in ("iommufd.c", "iommufd_fail_nth.c"):
        text = (tree / "tools/testing/selftests/iommu" / program).read_text()
        variants: dict[str, list[str]] = {}
        for fixture, variant in re.findall(
            r"^FIXTURE_VARIANT_ADD\((\w+), *(\w+)\)", text, re.MULTILINE
        ):
            variants.setdefault(fixture, []).append(f"{variant}.")
        for fixture, test in re.findall(
            r"^TEST_F(?:AIL_NTH|_\w+)?\((\w+), *(\w+)\)", text, re.MULTILINE
        ):
            found |= {f"{fixture}.{variant}{test}" for variant in variants.get(fixture, [""])}
    return found


def test_each_result_of_the_c_selftest_has_its_rules() -> None:
    expected = results_of_the_c_selftest()
    assert len(expected) == 254
    assert {entry.name for entry in load()} == expected


def test_a_variant_may_have_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "parity.toml"
    path.write_text(
        '[f]\nvariants = ["a", "b"]\n'
        'tests = { one = ["hwpt_alloc.reserved"], "b.one" = ["hwpt_alloc.layout"] }\n'
    )
    assert {entry.name: entry.rules for entry in load(path)} == {
        "f.a.one": ("hwpt_alloc.reserved",),
        "f.b.one": ("hwpt_alloc.layout",),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[f]\ntests = { one = ["no.such"] }', "f.one names the rule 'no.such'"),
        ("[f]\ntests = { one = [] }", "f.one has no rule"),
        ("[f", "parity.toml: "),
    ],
)
def test_a_wrong_ledger_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "parity.toml"
    path.write_text(text)
    with pytest.raises(Problem, match=re.escape(said)):
        load(path)
