# SPDX-License-Identifier: GPL-2.0-only
"""`pytest-iommufd rules`: what it lists, explains and refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.commands import defects
from pytest_iommufd.commands import rules as command
from pytest_iommufd.commands.main import main
from pytest_iommufd.rules.catalogue import Catalogue, shipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CATALOGUE = """
title = "AREA"
[dialects.mainline]
about = "as it is"
[dialects.posted]
about = "as it was"
[sources.patch]
about = "a patch"
by = "Somebody"
on = 2023-05-11
link = "https://lore.kernel.org/r/1@x"
[capabilities.thing]
ioctl = "IOMMU_THING"
["area.one"]
says = "It holds."
source = ["main.c:f", "patch:g"]
promise = ["iommufd.h:iommu_thing", "patch"]
expect = { mainline = "OK", posted = "EINVAL", "mainline without thing" = "ENOTTY" }
needs = ["thing"]
defects = [{ gives = "crashed", why = "for a reason", shows = ["a panic"], dialects = ["posted"] }]
["area.other"]
says = "It holds, too."
source = ["main.c:f"]
behaviour = "the mock driver"
aliases = ["area.further", "former.other"]
expect = "OK"
"""
ORIGIN = """\
area.one (AREA)
  It holds.
source:
  f() in main.c
  Somebody, 2023-05-11: a patch (g)
    https://lore.kernel.org/r/1@x
promised by:
  iommufd.h, iommu_thing
    https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/include/uapi/linux/iommufd.h
  Somebody, 2023-05-11: a patch
    https://lore.kernel.org/r/1@x
"""
EXPLAINED = (
    ORIGIN
    + """\
expected:
  mainline without thing: ENOTTY
  mainline: OK   (as it is)
  posted: EINVAL   (as it was)
needs:
  thing: IOMMU_THING
known defects:
  crashed: for a reason
    shows: a panic
    dialects: posted
to run it:
  pytest {folder} --iommufd-rule area.one
"""
)


@pytest.fixture
def rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command on a catalogue; returns status, output and errors."""
    path = tmp_path / "rules.toml"
    path.write_text(CATALOGUE)
    for module in (command, defects):
        monkeypatch.setattr(module, "shipped", lambda: [Catalogue.load(path)])

    def run(*names: str) -> tuple[int, str, str]:
        status = main(["rules", *names])
        return status, *capsys.readouterr()

    return run


LISTED = "AREA: 2 rules\n  area.one    It holds.\n  area.other  It holds, too.\n"


def test_all_rules_are_listed(rules: Callable[..., tuple[int, str, str]]) -> None:
    assert rules() == (0, LISTED, "")
    assert rules("area.o*") == (0, LISTED, "")
    assert rules("former.*") == rules("*.other")
    assert rules("*.other") == (0, "AREA: 1 rule\n  area.other  It holds, too.\n", "")


def test_a_rule_is_explained(rules: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    assert rules("area.one") == (0, EXPLAINED.format(folder=tmp_path), "")
    assert rules("former.other") == rules("area.other")
    assert rules("former.other")[1].startswith("area.other (AREA)")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("area.onne", "there is no rule 'area.onne'; did you mean area.one?"),
        ("area.x*", "no rule's name matches 'area.x*'"),
        ("", "there is no rule ''"),
    ],
)
def test_what_is_no_rule_is_refused(
    rules: Callable[..., tuple[int, str, str]], name: str, message: str
) -> None:
    status, out, error = rules("area.one", name)
    assert (status, out) == (2, "")
    assert error.startswith(f"pytest-iommufd: {message}")


def test_the_installed_suites_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    slugs = {slug for catalogue in shipped() for slug in catalogue.rules}
    assert slugs
    assert {line.split()[0] for line in lines if line.startswith("  ")} == slugs


DEFECT = (
    ORIGIN
    + """\
expected: ENOTTY or OK or EINVAL
known defects:
  crashed: for a reason
    shows: a panic
    dialects: posted
to have a program that shows it:
  pytest {folder} --iommufd-rule area.one --iommufd-reproducer c --iommufd-reproducer-of all
"""
)


def test_known_defects_are_listed(
    rules: Callable[..., tuple[int, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["defects", "area.*"]) == 0
    assert capsys.readouterr().out == DEFECT.format(folder=tmp_path)
    assert main(["defects", "area.other"]) == 2
    assert "no defect is known of rules area.other" in capsys.readouterr().err
    del rules
