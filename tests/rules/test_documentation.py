# SPDX-License-Identifier: GPL-2.0-only
"""docs/rules.md, the JSON Schema and the loader have the same keys, and take the same files."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pytest_iommufd.errors import Problem
from pytest_iommufd.rules import model
from pytest_iommufd.rules.catalogue import SHARED, Catalogue

PAGE = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SCHEMA = json.loads((resources.files("pytest_iommufd.rules") / "rules.schema.json").read_text())
TABLES = SCHEMA["properties"]
# By the line before the page's table: the schema of such a table, and what it becomes.
KINDS = {
    "has at least two parts": (SCHEMA["$defs"]["rule"], model.Rule),
    "A capability has one": (
        SCHEMA["$defs"]["capabilities"]["additionalProperties"],
        model.Capability,
    ),
    "simply holds the rule": (SCHEMA["$defs"]["defect"], model.Defect),
    "key of a dialect": (TABLES["dialects"]["additionalProperties"], model.Dialect),
    "key of a source": (TABLES["sources"]["additionalProperties"], model.Source),
    "key of a ladder": (TABLES["ladders"]["additionalProperties"], model.Ladder),
}
SUITES = Path(str(resources.files("pytest_iommufd.suites")))


def wrong(text: str, schema: dict[str, Any] = SCHEMA) -> list[str]:
    content = json.loads(json.dumps(tomllib.loads(text), default=date.isoformat))
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(content)]


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_is_right(tmp_path: Path, example: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(example)
    assert Catalogue.load(path).rules
    assert wrong(example) == []


@pytest.mark.parametrize("path", sorted(SUITES.glob("*/rules.toml")), ids=lambda p: p.parent.name)
def test_the_schema_takes_each_suite_s_file(path: Path) -> None:
    assert wrong(path.read_text()) == []


def test_the_schema_takes_the_shared_capabilities() -> None:
    schema = {"$ref": "#/$defs/capabilities", "$defs": SCHEMA["$defs"]}
    assert wrong((SUITES / SHARED).read_text(), schema) == []


@pytest.mark.parametrize("before", KINDS)
def test_the_page_and_the_loader_have_the_schema_s_keys(before: str) -> None:
    schema, made = KINDS[before]
    rows = PAGE.partition(before)[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE) == list(schema["properties"])
    assert {one.name for one in fields(made)} - {"slug", "name"} == set(schema["properties"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('expect = "EINVAL"', 'expect = "no"'),
        ('gives = "OK"', 'gives = "lost"'),
        ('gives = "OK"', 'gives = "violated"'),
        ('gives = "violated"', 'gives = "EINVAL"'),
        ("^entry_num is", "(entry_num is"),
        ('["^entry_num is returned as 2$"]', "[]"),
        ("rejected as a parent.", "rejected as a parent"),
        ('says = "IOMMU_HWPT_ALLOC from a parent"', ""),
        ('header = "', 'ioctl = "X"\nheader = "'),
        ('like = "posted"', 'lake = "posted"'),
        ("needs = [", "neds = ["),
        ("on = 2023-05-11", ""),
        ('"hwpt_alloc.reserved"', '"hwpt alloc"'),
        ('source = ["hw_pagetable.c:iommufd_hwpt_alloc"]', "source = []"),
        ('"size EINVAL"', '"size"'),
    ],
)
def test_what_is_wrong_to_the_schema_is_to_the_loader(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "rules.toml"
    example = next(one for one in EXAMPLES if old in one)
    path.write_text(example.replace(old, new, 1))
    assert wrong(path.read_text())
    with pytest.raises(Problem):
        Catalogue.load(path)
