# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

The ladders in rules.toml have each call's checks in the kernel's order; here is how to fail each of
them. Two that differ in the same field tell nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.rules.catalogue import FILE, Catalogue

from .conftest import MOCK_PAGE, MOST, PAGE

LADDERS = Catalogue.load(Path(__file__).with_name(FILE)).ladders
HUGE = (1 << 64) - MOCK_PAGE
WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "set": {"tail": {"tail": b"\1"}, "flags": {"flags": 1 << 31}, "hwpt_id": {"hwpt_id": 9999}},
    "get": {
        "tail": {"tail": b"\1"},
        "flags": {"flags": 1 << 31},
        "reserved": {"__reserved": 1},
        "hwpt_id": {"hwpt_id": 9999},
        "length": {"length": 0},
        "overflow": {"length": HUGE},
        "page_size": {"page_size": 0},
        "no_tracking": {"hwpt_id": "hwpt"},
    },
    "mark": {
        "length": {"length": PAGE + 1},
        # a kernel without the limit must not come to marking so many
        "too_many": {"length": (MOST + 1) * MOCK_PAGE, "uptr": "unmapped"},
        "hwpt_id": {"id": 9999},
        "off": {"id": "dirty_hwpt"},
        "bitmap": {"uptr": "unmapped"},
    },
}


def _rungs(ladder: str) -> pytest.MarkDecorator:
    rungs = LADDERS[f"dirty_tracking.order.{ladder}"]["mainline"]
    marked = [
        pytest.param(rung, marks=rule(f"dirty_tracking.order.{ladder}.{rung}"), id=rung)
        for rung in rungs
    ]
    return pytest.mark.parametrize("rung", marked)


@pytest.fixture
def each(request: pytest.FixtureRequest, rung: str) -> list[tuple[str, dict[str, Any]]]:
    """The fields that are wrong: those of the rung, alone and with each rung's below it."""
    ladder = request.node.originalname.removeprefix("test_order_of_")
    rungs, wrong = LADDERS[f"dirty_tracking.order.{ladder}"]["mainline"], WRONG[ladder]
    found = []
    for lower in rungs[rungs.index(rung) :]:
        if lower == rung or not wrong[rung].keys() & wrong[lower].keys():
            fields = wrong[lower] | wrong[rung]
            for key, value in fields.items():
                if isinstance(value, str):
                    fields[key] = request.getfixturevalue(value)
            found.append((lower, fields))
    return found


@_rungs("set")
def test_order_of_set(expected, dirty_hwpt, each):
    for _, fields in each:
        with expected, dirty_hwpt.context.sending(tail=fields.pop("tail", b"")):
            dirty_hwpt.set_dirty_tracking(**fields)


@_rungs("get")
def test_order_of_get(expected, tracked, each):
    right = {"iova": tracked.iova, "length": PAGE, "page_size": PAGE}
    for _, fields in each:
        with expected, tracked.hwpt.context.sending(tail=fields.pop("tail", b"")):
            tracked.hwpt.get_dirty_bitmap(bitmap=tracked.bitmap, **(right | fields))


@_rungs("mark")
def test_order_of_mark(expected, iommufd, untracked, each, rung):
    right = {"iova": untracked.iova, "length": PAGE, "page_size": MOCK_PAGE}
    right |= {"uptr": untracked.bitmap.address}
    for lower, fields in each:
        untracked.hwpt.set_dirty_tracking(enable="off" not in (rung, lower))
        target = fields.pop("id", untracked.hwpt)
        numbers = {key: value.__index__() for key, value in fields.items()}
        with expected:
            iommufd.test("dirty", target, dirty=right | numbers)
