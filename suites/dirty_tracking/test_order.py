# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

The ladders in rules.toml have each call's checks in the kernel's order; here is how to fail each of
them. Two that differ in the same field tell nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.rules.catalogue import FILE, Catalogue

from .conftest import MOCK_PAGE, PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_iommufd.iommufd import Context, Hwpt
    from pytest_iommufd.rules.expectation import Expectation

    from .conftest import Tracked

LADDERS = Catalogue.load(Path(__file__).with_name(FILE)).ladders
HUGE = (1 << 64) - MOCK_PAGE
WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "set": {"tail": {"tail": b"\1"}, "flags": {"flags": 2}, "hwpt_id": {"hwpt_id": 9999}},
    "get": {
        "tail": {"tail": b"\1"},
        "flags": {"flags": 2},
        "reserved": {"__reserved": 1},
        "hwpt_id": {"hwpt_id": 9999},
        "length": {"length": 0},
        "overflow": {"length": HUGE},
        "page_size": {"page_size": 0},
        "no_tracking": {"hwpt_id": "hwpt"},
    },
    "mark": {
        "length": {"length": PAGE + 1},
        "too_many": {"length": HUGE},
        "hwpt_id": {"id": 9999},
        "off": {"id": "dirty_hwpt"},
        "bitmap": {"uptr": "unmapped"},
    },
}


def _pairs(ladder: str) -> Iterator[Any]:
    rungs = LADDERS[f"dirty_tracking.order.{ladder}"]["mainline"]
    for at, first in enumerate(rungs):
        slug = f"dirty_tracking.order.{ladder}.{first}"
        for second in rungs[at:]:
            wrong = WRONG[ladder]
            if first == second or not wrong[first].keys() & wrong[second].keys():
                yield pytest.param(first, second, marks=rule(slug), id=f"{first}-{second}")


@pytest.fixture
def given(first: str, second: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The fields that are wrong."""
    ladder = request.node.originalname.removeprefix("test_order_of_")
    fields = WRONG[ladder][second] | WRONG[ladder][first]
    return {
        key: request.getfixturevalue(value) if isinstance(value, str) else value
        for key, value in fields.items()
    }


@pytest.mark.parametrize(("first", "second"), list(_pairs("set")))
def test_order_of_set(expected: Expectation, dirty_hwpt: Hwpt, given: dict[str, Any]) -> None:
    with expected:
        dirty_hwpt.set_dirty_tracking(**given)


@pytest.mark.parametrize(("first", "second"), list(_pairs("get")))
def test_order_of_get(expected: Expectation, tracked: Tracked, given: dict[str, Any]) -> None:
    fields = {"iova": tracked.iova, "length": PAGE, "page_size": PAGE} | given
    with expected:
        tracked.hwpt.get_dirty_bitmap(bitmap=tracked.bitmap, **fields)


@pytest.mark.parametrize(("first", "second"), list(_pairs("mark")))
def test_order_of_mark(
    expected: Expectation,
    iommufd: Context,
    untracked: Tracked,
    given: dict[str, Any],
    first: str,
    second: str,
) -> None:
    if "off" not in (first, second):
        untracked.hwpt.set_dirty_tracking()
    fields = {"iova": untracked.iova, "length": PAGE, "page_size": MOCK_PAGE}
    fields |= {"uptr": untracked.bitmap.address}
    target = given.pop("id", untracked.hwpt)
    numbers = {key: value.__index__() for key, value in given.items()}
    with expected:
        iommufd.test("dirty", target, dirty=fields | numbers)
