# SPDX-License-Identifier: GPL-2.0-only
"""Which tests the loop runs, and what it is not asked to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.commands import main as cli
from pytest_iommufd.errors import Problem
from pytest_iommufd.watch.tests import DEFAULT, arguments, suites

if TYPE_CHECKING:
    from pathlib import Path

DEFAULTS = ["--pyargs", f"pytest_iommufd.suites.{DEFAULT}"]
IOAS = ["--pyargs", "pytest_iommufd.suites.ioas"]


def test_default() -> None:
    assert DEFAULT in suites()
    assert arguments([]) == DEFAULTS
    assert arguments(["-x"]) == ["-x", *DEFAULTS]


def test_suites_are_those_that_rules_are_named_after() -> None:
    assert {"ioas", "generic", "viommu"} <= set(suites())


@pytest.mark.parametrize(
    "words", [["--rule", "ioas.map.*"], ["--rule=ioas.map.*"], ["--iommufd-rule=ioas.map.*"]]
)
def test_rules_tell_the_suite(words: list[str]) -> None:
    assert arguments(words) == [*words, *IOAS]


def test_rules_of_several_suites() -> None:
    words = ["--rule", "ioas.*", "--rule=access.*", "--rule", "ioas.map"]
    assert arguments(words) == [*words, *IOAS, "pytest_iommufd.suites.access"]


def test_rules_of_any_suite() -> None:
    all_of_them = [f"pytest_iommufd.suites.{suite}" for suite in suites()]
    assert arguments(["--rule", "*.reserved"]) == [
        "--rule",
        "*.reserved",
        "--pyargs",
        *all_of_them,
    ]


def test_tests_that_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_it.py").touch()
    monkeypatch.chdir(tmp_path)
    for words in (
        ["test_it.py"],
        ["test_it.py::test_one", "-x"],
        [str(tmp_path), "--rule", "ioas.*"],
        ["--pyargs", "pytest_iommufd.suites.ioas.test_map"],
    ):
        assert arguments(words) == words


@pytest.mark.parametrize("word", ["--kernel", "--iommufd-kernel=x", "--rules-json=x", "--co"])
def test_options_that_the_loop_sets(word: str) -> None:
    with pytest.raises(Problem, match=f"watch takes no {word.partition('=')[0]}:"):
        arguments([word])


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("./nothing", "no such image or tree: ./nothing"),
        (".", "not a Linux source tree: .* has no Kconfig and no Makefile"),
        ("6.12", "not a source tree: 6.12"),
        ("running", "not a source tree: running"),
        ("tree+nothing", "nothing"),
    ],
)
def test_what_cannot_be_watched(
    spec: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tree").mkdir()
    for name in ("Kconfig", "Makefile"):
        (tmp_path / "tree" / name).touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watch", spec]) == 2
    assert re.search(says, capsys.readouterr().err)
