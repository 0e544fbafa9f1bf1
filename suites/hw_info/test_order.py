# SPDX-License-Identifier: GPL-2.0-only
"""The order of the checks: of two errors in one call, the earlier check's is returned.

The ladder in rules.toml has the checks in the kernel's order; here is how to fail each of them.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.rules.catalogue import FILE, Catalogue

LADDER = "hw_info.order"
WRONG: dict[str, dict[str, Any]] = {
    "tail": {"tail": b"\1"},
    "flags": {"flags": 1 << 31},
    "device": {"dev_id": 9999},
    "data": {"data_len": 8},
}
RUNGS = [
    rung.split()[0]
    for rung in Catalogue.load(Path(__file__).with_name(FILE)).ladders[LADDER]["mainline"]
]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(first, second, marks=rule(f"{LADDER}.{first}"), id=f"{first}-{second}")
        for first, second in [*combinations(RUNGS, 2), (RUNGS[-1], RUNGS[-1])]
    ],
)
def test_earlier_check_is_told(expected, mock_device, first, second):
    wrong = WRONG[second] | WRONG[first]
    with expected, mock_device.context.sending(tail=wrong.pop("tail", b"")):
        mock_device.get_hw_info(**wrong)
