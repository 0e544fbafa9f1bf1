# SPDX-License-Identifier: GPL-2.0-only
"""MD_CHECK_MAP and MD_CHECK_REFS, which other rules rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import Hwpt
from pytest_iommufd.iommufd.checks import check_map, check_refs

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Buffer, Ioas, MockDevice

LAST = (1 << 64) - 1
PAGE = 0x1000
MOCK_PAGE = 2048
NO_HWPT = ("zero", "never_used", "ioas", "mock_device", "nested_hwpt")


@pytest.fixture
def iova(mock_device: MockDevice, ioas: Ioas, buffer: Buffer) -> int:
    """The IOVA of the buffer but for its last page."""
    assert mock_device.id
    return ioas.map(buffer, buffer.size - PAGE)


@rule("pages.check_map.unaligned")
@pytest.mark.parametrize("what", ["iova", "length", "memory"])
def test_unaligned(expected, mock_device, buffer, iova, what):
    odd = {"iova": 0, "length": 0, "memory": 0} | {what: 1024}
    with expected:
        check_map(
            mock_device.hwpt,
            iova + odd["iova"],
            buffer.address + odd["memory"],
            PAGE + odd["length"],
        )


@rule("pages.check_map.wraps")
def test_memory_wraps(expected, mock_device, iova):
    with expected:
        check_map(mock_device.hwpt, iova, LAST - MOCK_PAGE + 1, MOCK_PAGE)


@rule("pages.check_map.hwpt")
@pytest.mark.parametrize("kind", NO_HWPT)
def test_no_hwpt(expected, request, iommufd, buffer, iova, kind):
    numbers = {"zero": 0, "never_used": 9999}
    number = numbers[kind] if kind in numbers else request.getfixturevalue(kind).id
    with expected:
        check_map(Hwpt(iommufd, number), iova, buffer, PAGE)


@rule("pages.check_map.other_pages")
def test_other_pages(expected, mock_device, buffer, iova):
    check_map(mock_device.hwpt, iova, buffer, PAGE)
    with expected:
        check_map(mock_device.hwpt, iova, buffer.address + PAGE, PAGE)


@rule("pages.check_map.not_mapped")
def test_not_all_is_mapped(expected, mock_device, buffer, iova):
    with expected:
        check_map(mock_device.hwpt, iova, buffer, buffer.size)


@rule("pages.check_map.memory_gone")
def test_memory_is_gone(expected, mock_device, iova, unmapped):
    with expected:
        check_map(mock_device.hwpt, iova, unmapped, PAGE)


@rule("pages.check_refs.count")
@pytest.mark.parametrize("refs", [0, 2, 1 << 31])
def test_wrong_count(expected, iommufd, buffer, iova, refs):
    assert iova
    with expected:
        check_refs(iommufd, buffer, PAGE, refs)


@rule("pages.check_refs.each")
def test_each_page_is_looked_at(expected, iommufd, buffer, iova):
    assert iova
    check_refs(iommufd, buffer, buffer.size - PAGE, 1)
    with expected:
        check_refs(iommufd, buffer, buffer.size, 1)


@rule("pages.check_refs.unaligned")
@pytest.mark.parametrize(("offset", "length"), [(1, PAGE), (MOCK_PAGE, PAGE), (0, MOCK_PAGE)])
def test_unaligned_refs(expected, iommufd, buffer, offset, length):
    with expected:
        check_refs(iommufd, buffer.address + offset, length, 0)


@rule("pages.check_refs.wraps")
def test_refs_wrap(expected, iommufd):
    with expected:
        check_refs(iommufd, LAST - PAGE + 1, PAGE, 0)


@rule("pages.check_refs.memory_gone")
def test_refs_of_no_memory(expected, iommufd, unmapped):
    with expected:
        check_refs(iommufd, unmapped, PAGE, 0)
