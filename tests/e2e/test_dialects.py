# SPDX-License-Identifier: GPL-2.0-only
"""The suite on the kernels of 2023: as posted, as reviewed, and as one reviewer proposed."""

from __future__ import annotations

import json
from typing import Any

import pytest

AS_POSTED = "6.12+hwpt-alloc-v2"
KERNELS = {
    AS_POSTED: "v2",
    "6.12+hwpt-alloc-v2-review": "v2-review",
    "6.12+hwpt-alloc-v2-driver-copy": "v2-driver-copy",
}
DEFECTS = {
    "hwpt_alloc.data.nested.unknown_type": "crashed",
    "hwpt_alloc.data.nested.unknown_type.no_warning": "violated",
    "hwpt_alloc.data.paging.unknown_type": "crashed",
    "hwpt_alloc.conflict.unknown_type_and_pointer": "crashed",
    "hwpt_alloc.conflict.unknown_type_and_plain_parent": "crashed",
}


@pytest.fixture
def matrix(pytester: pytest.Pytester) -> Any:
    """What a run on all of them wrote."""
    file = pytester.path / "rules.json"
    result = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "--rules-json", str(file)),
        *(f"--kernel={kernel}" for kernel in KERNELS),
        *("--pyargs", "pytest_iommufd.suites.hwpt_alloc"),
    )
    assert result.ret == 0
    return json.loads(file.read_text())


def test_only_the_defects_do_not_hold_and_only_as_posted(matrix: Any) -> None:
    assert {kernel["name"]: kernel["dialect"] for kernel in matrix["kernels"]} == KERNELS
    wrong = {
        (kernel, rule["slug"]): given["gave"]
        for rule in matrix["rules"]
        for kernel, given in rule["results"].items()
        if given["mark"] not in ("holds", "absent")
    }
    assert wrong == {(AS_POSTED, slug): mark for slug, mark in DEFECTS.items()}
    consoles = {
        rule["slug"]: rule["results"][AS_POSTED]["console"]
        for rule in matrix["rules"]
        if rule["slug"] in DEFECTS
    }
    assert all("WARNING: " in console for console in consoles.values())
    assert all(
        "NULL pointer dereference" in consoles[slug]
        for slug, mark in DEFECTS.items()
        if mark == "crashed"
    )
