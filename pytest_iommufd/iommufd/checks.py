# SPDX-License-Identifier: GPL-2.0-only
"""What iommufd_test tells of mapped and pinned memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

if TYPE_CHECKING:
    from pytest_iommufd.iommufd.hwpt import Hwpt
    from pytest_iommufd.iommufd.object import DevIommu


def check_map(hwpt: Hwpt, iova: int, memory: SupportsIndex, length: int) -> None:
    """MD_CHECK_MAP: EINVAL unless a mock HWPT has the process's pages at an IOVA."""
    __tracebackhide__ = True
    given = {"iova": iova, "length": length, "uptr": memory}
    hwpt.context.test("md_check_map", hwpt, check_map=given)


def check_refs(context: DevIommu, memory: SupportsIndex, length: int, refs: int) -> None:
    """MD_CHECK_REFS: EIO unless each small page of the process is pinned so often."""
    __tracebackhide__ = True
    given = {"length": length, "uptr": memory, "refs": refs}
    context.test("md_check_refs", check_refs=given)
