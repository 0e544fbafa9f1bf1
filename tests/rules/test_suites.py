# SPDX-License-Identifier: GPL-2.0-only
"""Suites and catalogues: a test for each rule, a rule for each test, sources that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.kernel import resolve
from pytest_iommufd.rules.catalogue import shipped
from pytest_iommufd.rules.marker import some

if TYPE_CHECKING:
    from pytest_iommufd.rules.catalogue import Catalogue

CATALOGUES = list(shipped())
BY_TITLE = pytest.mark.parametrize("catalogue", CATALOGUES, ids=lambda made: made.title)
# Sources without a folder are here.
IOMMUFD = "drivers/iommu/iommufd"
LISTS_RULES = """
import json
from pytest_iommufd.rules.marker import rule_of

def pytest_collection_finish(session):
    with open({file!r}, "w") as file:
        json.dump(sorted({{rule_of(item) for item in session.items}}), file)
"""


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The rules that the suites' tests are of, "" for a test of none."""
    folder = tmp_path_factory.mktemp("collected")
    (folder / "lists_rules.py").write_text(LISTS_RULES.format(file=str(folder / "rules")))
    collect = ("-m", "pytest", "-p", "lists_rules", "-p", "no:cacheprovider", "--collect-only")
    suites = ("-q", "--pyargs", "pytest_iommufd.suites")
    subprocess.run([sys.executable, *collect, *suites], cwd=folder, check=True, capture_output=True)
    return set(json.loads((folder / "rules").read_text()))


def test_there_are_catalogues() -> None:
    assert "IOMMU_HWPT_ALLOC" in {catalogue.title for catalogue in CATALOGUES}


@BY_TITLE
def test_each_rule_has_a_test(catalogue: Catalogue, tested: set[str]) -> None:
    found = {catalogue.rule(slug).slug for slug in tested if slug and catalogue.has(slug)}
    assert set(catalogue.rules) - found == set()


def test_each_test_has_a_rule(tested: set[str]) -> None:
    strange = {slug for slug in tested if not any(each.has(slug) for each in CATALOGUES)}
    assert strange == set()


def test_parameters_that_turn_out_empty_are_an_error() -> None:
    assert some([1]) == [1]
    with pytest.raises(ValueError, match="there is nothing to make tests of"):
        some([])


def test_no_splat_is_known_by_a_path_of_its_build() -> None:
    suites = Path(str(resources.files("pytest_iommufd.suites")))
    texts = "".join(path.read_text() for path in suites.rglob("test_*.py"))
    patterns = re.findall(r"expect_splat\(\s*r?\"(.+?)\"\s*\)", texts)
    assert len(patterns) == texts.count("expect_splat(")
    assert [pattern for pattern in patterns if "/" in pattern] == []


@BY_TITLE
def test_kernel_functions_exist(catalogue: Catalogue) -> None:
    trees = [resolve(spec).tree for spec in ("6.12", "7.3")]
    sources = {source for rule in catalogue.rules.values() for source in rule.source}
    for source in sources:
        file, _, function = source.partition(":")
        if file in catalogue.sources:
            continue
        path = file if "/" in file else f"{IOMMUFD}/{file}"
        texts = [(tree / path).read_text() for tree in trees if tree and (tree / path).exists()]
        assert any(re.search(rf"\b{function}\b", text) for text in texts), source


@BY_TITLE
def test_places_in_series_exist(catalogue: Catalogue) -> None:
    for rule in catalogue.rules.values():
        for source in rule.source:
            name, _, place = source.partition(":")
            if place and name in catalogue.sources:
                folder = catalogue.sources[name].series
                assert re.search(rf"\b{re.escape(place)}\b", _patches(folder)), source


@BY_TITLE
def test_each_source_is_in_the_series_that_does_what_it_says(catalogue: Catalogue) -> None:
    for source in catalogue.sources.values():
        if source.series:
            assert re.search(rf"{source.by}, {source.on}", _patches(source.series)), source.name


def _patches(series: str) -> str:
    folder = Path(str(resources.files("pytest_iommufd.kernel"))) / "series" / series
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.patch")))
