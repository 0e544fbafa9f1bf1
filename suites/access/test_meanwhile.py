# SPDX-License-Identifier: GPL-2.0-only
"""Accesses in the middle of a call of another thread.

While ACCESS_PAGES compares pages it holds the access's own lock: the driver cannot unpin then, and
who waits for that stays in the middle.
"""

from __future__ import annotations

from errno import EBADE
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd.checks import check_refs
from pytest_iommufd.iommufd.ioas import FIXED_RW
from pytest_iommufd.iommufd.meanwhile import meanwhile
from pytest_iommufd.iommufd.request import Request

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.access import Access

PAGE = 0x1000
PLACE = 0x4000_0000
pytestmark = pytest.mark.no_fail_nth("threads make the calls, not the test itself")


def operation(access: Access, name: str, **fields: Any) -> Request:
    """Return an operation of iommufd_test on an access."""
    op = getattr(access.context.uapi, f"IOMMU_TEST_OP_{name.upper()}")
    return Request("IOMMU_TEST_CMD", {"op": op, "id": access, name: fields})


def pin(access: Access, uptr: int = 0) -> Request:
    """Return ACCESS_PAGES of the first page that is mapped."""
    return operation(access, "access_pages", iova=PLACE, length=PAGE, uptr=uptr)


def read(access: Access) -> Request:
    """Return ACCESS_RW of a byte."""
    at = access.context.put(b"\0")
    return operation(access, "access_rw", iova=PLACE, length=1, uptr=at)


@rule("access.pin.being_mapped")
def test_while_it_is_mapped(expected, mock_device, ioas, access, faulting_page):
    assert mock_device.id
    fields = {"user_va": faulting_page.address, "length": PAGE, "iova": PLACE}
    mapping = Request("IOMMU_IOAS_MAP", {"ioas_id": ioas, "flags": FIXED_RW} | fields)
    mapped, *errnos = meanwhile(ioas.context, faulting_page, mapping, pin(access), read(access))
    expected.check(*errnos)
    assert mapped == 0
    access.unpin(access.pin(PLACE, PAGE, faulting_page.address))
    ioas.unmap_all()


@rule("access.pin.being_unmapped")
def test_while_it_is_unmapped(expected, ioas, buffer, access, area, faulting_page):
    other = ioas.create_access(pin=True)
    fields = {"ioas_id": ioas, "iova": area, "length": buffer.size}
    unmapping = Request("IOMMU_IOAS_UNMAP", fields)
    stopped = pin(access, faulting_page.address)
    found = meanwhile(ioas.context, faulting_page, stopped, pin(other), waiting=unmapping)
    compared, errno, unmapped = found
    expected.check(errno)
    assert (compared, unmapped) == (EBADE, 0)
    check_refs(ioas.context, buffer, buffer.size, 0)


@rule("access.replace.meanwhile")
def test_while_it_moves(expected, ioas, other_ioas, buffer, access, area, faulting_page):
    moving = operation(access, "access_replace_ioas", ioas_id=other_ioas.id)
    stopped = pin(access, faulting_page.address)
    found = meanwhile(ioas.context, faulting_page, stopped, read(access), waiting=moving)
    compared, errno, moved = found
    expected.check(errno)
    assert (compared, moved) == (EBADE, 0)
    other_ioas.map(buffer, iova=area)
    access.unpin(access.pin(area, PAGE, buffer))
