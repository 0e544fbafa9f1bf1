# SPDX-License-Identifier: GPL-2.0-only
"""What can be done with an area while another thread still maps it: its memory is being pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_map
from pytest_iommufd.iommufd.ioas import FIXED_RW
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd import Ioas, MockDevice
    from pytest_iommufd.iommufd.uffd import FaultingPage

PAGE = 0x1000
LAST = (1 << 64) - 1
PLACE = 0x4000_0000
pytestmark = pytest.mark.no_fail_nth("threads make the calls, not the test itself")


@pytest.fixture
def while_mapping(
    mock_device: MockDevice, ioas: Ioas, faulting_page: FaultingPage, page_size: int
) -> Callable[..., list[int]]:
    """Makes ioctls while a page is being mapped, and returns their errnos."""

    def make(*others: Request) -> list[int]:
        fields = {"user_va": faulting_page.address, "length": page_size, "iova": PLACE}
        request = Request("IOMMU_IOAS_MAP", {"ioas_id": ioas, "flags": FIXED_RW} | fields)
        mapped, *errnos = meanwhile(ioas.context, faulting_page, request, *others)
        assert mapped == 0
        check_map(mock_device.hwpt, PLACE, faulting_page.address, page_size)
        assert ioas.unmap_all() == page_size
        return errnos

    return make


@rule("ioas.unmap.being_mapped")
def test_unmap(expected, while_mapping, ioas):
    ranges = ({"iova": PLACE, "length": PAGE}, {"iova": 0, "length": LAST})
    requests = [Request("IOMMU_IOAS_UNMAP", {"ioas_id": ioas} | part) for part in ranges]
    expected.check(*while_mapping(*requests))


@rule("ioas.map.being_mapped")
def test_map(expected, while_mapping, ioas):
    fields = {"ioas_id": ioas, "flags": FIXED_RW, "length": PAGE, "iova": PLACE}
    expected.check(*while_mapping(Request("IOMMU_IOAS_MAP", fields)))


@rule("ioas.copy.being_mapped")
def test_copy(expected, while_mapping, ioas, other_ioas):
    fields: dict[str, Any] = {"src_ioas_id": ioas, "dst_ioas_id": other_ioas, "flags": 6}
    fields |= {"src_iova": PLACE, "length": PAGE}
    expected.check(*while_mapping(Request("IOMMU_IOAS_COPY", fields)))


@rule("ioas.change_process.being_mapped")
def test_change_process(expected, while_mapping):
    expected.check(*while_mapping(Request("IOMMU_IOAS_CHANGE_PROCESS")))
