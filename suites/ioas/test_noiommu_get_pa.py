# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_IOAS_NOIOMMU_GET_PA: mock devices have an IOMMU, so that no call of it can succeed here."""

from __future__ import annotations

from errno import EOPNOTSUPP
from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.iommufd import Context, IoctlError
from pytest_iommufd.iommufd.accounting import drop_capability

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_iommufd.iommufd.leaks import Ledger
    from pytest_iommufd.uapi import Uapi

CAP_SYS_RAWIO = 17
MAX = 2**64 - 1
NO_IOAS = 9999


@pytest.fixture
def has_noiommu(ledger: Ledger, uapi: Uapi) -> bool:
    """Whether the kernel has CONFIG_IOMMUFD_NOIOMMU: it minds what is in a call, then."""
    if not uapi.has("IOMMU_IOAS_NOIOMMU_GET_PA"):
        return False
    context = Context(ledger.process, uapi)
    ledger.contexts.append(context)
    try:
        context.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA")
    except IoctlError as error:
        return error.errno != EOPNOTSUPP
    return True


@pytest.fixture
def get_pa(iommufd: Context) -> Callable[..., None]:
    """Makes the call, with a length of a byte unless one is given."""

    def call(ioas: Any = NO_IOAS, **fields: int) -> None:
        iommufd.ioctl("IOMMU_IOAS_NOIOMMU_GET_PA", **{"ioas_id": ioas, "length": 1, **fields})

    return call


@rule("ioas.noiommu_get_pa.privilege")
def test_without_the_privilege(expected, get_pa, process):
    drop_capability(process, CAP_SYS_RAWIO)
    for fields in ({}, {"flags": 1}, {"length": 0}):
        with expected:
            get_pa(**fields)


@rule("ioas.noiommu_get_pa.reserved")
@pytest.mark.parametrize("field", ["flags", "__reserved"])
def test_reserved_field(expected, get_pa, field):
    for bit in (0, 31):
        with expected:
            get_pa(length=0, **{field: 1 << bit})


@rule("ioas.noiommu_get_pa.length_zero")
def test_length_zero(expected, get_pa):
    for iova in (0, MAX):
        with expected:
            get_pa(length=0, iova=iova)


@rule("ioas.noiommu_get_pa.iova_huge")
def test_largest_iova(expected, get_pa, ioas):
    for target in (NO_IOAS, ioas):
        with expected:
            get_pa(target, iova=MAX)


@rule("ioas.noiommu_get_pa.no_ioas")
def test_unknown_ioas(expected, get_pa, unknown_id):
    with expected:
        get_pa(unknown_id)


@rule("ioas.noiommu_get_pa.no_ioas.other_type")
def test_ioas_of_another_type(expected, get_pa, auto_hwpt):
    with expected:
        get_pa(auto_hwpt)


@rule("ioas.noiommu_get_pa.unmapped")
def test_nothing_is_mapped(expected, get_pa, ioas, area, page_size):
    for iova in (area - 1, area + 2 * page_size, MAX - 1):
        with expected:
            get_pa(ioas, iova=iova)


@rule("ioas.noiommu_get_pa.with_iommu")
@pytest.mark.parametrize("device", [False, True], ids=["without", "with_device"])
def test_mapped_for_a_device_with_an_iommu(expected, get_pa, ioas, area, request, device):
    if device:
        request.getfixturevalue("mock_device")
    with expected:
        get_pa(ioas, iova=area)


@rule("ioas.noiommu_get_pa.revoked")
def test_dmabuf_that_was_taken_away(expected, get_pa, ioas, dmabuf, base, page_size):
    fd = dmabuf(page_size)
    ioas.map_file(fd, page_size, iova=base)
    ioas.context.test("dmabuf_revoke", dmabuf_revoke={"dmabuf_fd": fd, "revoked": 1})
    with expected:
        get_pa(ioas, iova=base)


# ---- where it is only a stub ----


@rule("ioas.noiommu_get_pa.not_built")
@pytest.mark.usefixtures("mock_device")
def test_not_built(expected, get_pa, ioas, area):
    right: dict[str, Any] = {"ioas": ioas, "iova": area, "length": 0x1000}
    wrongs = {"flags": 1, "__reserved": 1, "length": 0, "iova": MAX, "ioas": NO_IOAS}
    for wrong in ({}, *({field: value} for field, value in wrongs.items())):
        with expected:
            get_pa(**(right | wrong))
