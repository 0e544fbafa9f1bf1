# SPDX-License-Identifier: GPL-2.0-only
"""Failures that the kernel makes on purpose: the nth point in the call that can fail does."""

from __future__ import annotations

from errno import ENOENT, ENOMEM
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import IoctlError, rule
from pytest_iommufd.iommufd import Ioas

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context, HwptData

TARGETS = {"ioas": "other_ioas", "parent": "parent_hwpt", "viommu": "viommu"}
# More points than any of the calls has.
POINTS = 12


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Any:
    """What a HWPT is made from, and nothing else holds."""
    return request.getfixturevalue(TARGETS[request.param])


@pytest.fixture
def fields(target: Any, hwpt_type: HwptData, iommufd: Context) -> dict[str, Any]:
    """The fields besides dev_id and pt_id that make a HWPT of the target."""
    if isinstance(target, Ioas):
        return {}
    data = hwpt_type.valid()
    uptr = iommufd.put(data.content)
    return {"data_type": data.type, "data_len": len(data.content), "data_uptr": uptr}


@pytest.fixture
def lookups(fields: dict[str, Any], dialect: str) -> set[int]:
    """Which points that can fail are the lookups; data may be copied between them."""
    return {1, 3} if fields and dialect == "v2-review" else {1, 2}


@rule("hwpt_alloc.failure.device_lookup")
def test_first_lookup_is_the_device(expected, iommufd, mock_device, target, fields):
    with expected, iommufd.sending(fail_nth=1):
        iommufd.hwpt_alloc(mock_device, target, **fields)
    target.destroy()


@rule("hwpt_alloc.failure.pt_lookup")
def test_second_lookup_is_the_pt(expected, iommufd, mock_device, target, fields, lookups):
    with expected, iommufd.sending(fail_nth=max(lookups)):
        iommufd.hwpt_alloc(mock_device, target, **fields)
    target.destroy()


@rule("hwpt_alloc.failure.fault_lookup")
def test_last_lookup_is_the_fault_queue(
    iommufd, mock_device, parent_hwpt, hwpt_type, fault_queue, uapi
):
    failed = []
    fields = {"flags": uapi.IOMMU_HWPT_FAULT_ID_VALID, "fault_id": fault_queue}
    for nth in range(3, POINTS):
        try:
            with iommufd.sending(fail_nth=nth):
                made = iommufd.hwpt_alloc(mock_device, parent_hwpt, hwpt_type.valid(), **fields)
        except IoctlError as error:
            failed.append(error.errno)
        else:
            made.destroy()
    assert failed[-1] == ENOENT
    assert {*failed[:-1]} <= {ENOMEM}
    fault_queue.close()
    fault_queue.destroy()
    parent_hwpt.destroy()


@rule("hwpt_alloc.failure.memory_object")
def test_no_memory_for_the_object(expected, iommufd, mock_device, target, fields, lookups):
    nth = min({1, 2, 3} - lookups)
    with expected, iommufd.sending(fail_nth=nth):
        iommufd.hwpt_alloc(mock_device, target, **fields)
    target.destroy()


@rule("hwpt_alloc.failure.memory_driver")
def test_no_memory_at_any_point(iommufd, mock_device, target, fields, lookups):
    failures = 0
    for nth in set(range(1, POINTS)) - lookups:
        try:
            with iommufd.sending(fail_nth=nth):
                iommufd.hwpt_alloc(mock_device, target, **fields).destroy()
        except IoctlError as error:
            assert error.errno == ENOMEM, error  # noqa: PT017 - others are successes
            failures += 1
    assert failures >= 2, "the object and the driver's domain both need memory"
    target.destroy()
