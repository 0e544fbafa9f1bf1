# SPDX-License-Identifier: GPL-2.0-only
"""The ledger names every result of the kernel's C selftest, and rules that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.commands.main import main
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
    assert set(load()) == expected


def test_a_variant_may_have_rules_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "parity.toml"
    path.write_text(
        '[f]\nvariants = ["a", "b"]\n'
        'tests = { one = ["hwpt_alloc.reserved"], "b.one" = ["hwpt_alloc.layout"] }\n'
    )
    assert load(path) == {"f.a.one": ["hwpt_alloc.reserved"], "f.b.one": ["hwpt_alloc.layout"]}


def test_the_command_prints_what_its_own_example_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["parity", "--help"])
    words = " ".join(capsys.readouterr().out.split())
    (example,) = re.findall(r"such as '(.+?)'", words)
    assert main(["parity", example]) == 0
    *results, counts = capsys.readouterr().out.splitlines()
    assert results
    assert counts.startswith(f"{len(results)} results, ")
    assert main(["parity", "no.such"]) == 2


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
