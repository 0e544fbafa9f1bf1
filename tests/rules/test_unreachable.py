# SPDX-License-Identifier: GPL-2.0-only
"""suites/unreachable.toml says of each branch without a rule why there is none."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

TEXT = (Path(str(resources.files("pytest_iommufd.suites"))) / "unreachable.toml").read_text("utf-8")
# a table that is there twice is an error of TOML
ENTRIES: dict[str, dict[str, str]] = tomllib.loads(TEXT)


def test_ids_are_in_order() -> None:
    assert ENTRIES
    assert list(ENTRIES) == sorted(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_reason_is_a_sentence(name: str) -> None:
    assert re.fullmatch(r"G-[A-Z]\d{2}", name)
    assert list(ENTRIES[name]) == ["reason"]
    assert re.fullmatch(r"\w.* .*\.", ENTRIES[name]["reason"])
