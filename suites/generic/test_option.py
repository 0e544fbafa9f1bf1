# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU_OPTION."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_iommufd import rule
from pytest_iommufd.uapi.spare import spare_number

if TYPE_CHECKING:
    from pytest_iommufd.iommufd import Context, Ioas
    from pytest_iommufd.iommufd.file import IoctlFile

UNPRIVILEGED = 65534
BAD_OP = 2


def rlimit_mode(iommufd: Context, value: int | None = None, **fields: Any) -> int:
    """Ask for RLIMIT_MODE, or set it."""
    return option(iommufd, iommufd.uapi.IOMMU_OPTION_RLIMIT_MODE, value, **fields)


def huge_pages(ioas: Ioas, value: int | None = None, **fields: Any) -> int:
    """Ask for HUGE_PAGES, or set it."""
    uapi = ioas.context.uapi
    return option(ioas.context, uapi.IOMMU_OPTION_HUGE_PAGES, value, object_id=ioas, **fields)


def option(iommufd: IoctlFile, number: int, value: int | None, **fields: Any) -> int:
    """Ask for an option or set it."""
    uapi = iommufd.uapi
    op = uapi.IOMMU_OPTION_OP_GET if value is None else uapi.IOMMU_OPTION_OP_SET
    given = {"option_id": number, "op": op, "val64": value or 0}
    return int(iommufd.ioctl("IOMMU_OPTION", **(given | fields)).val64)


@rule("generic.option.unknown")
@pytest.mark.parametrize("number", [None, 0xFFFF_FFFF], ids=["lowest", "highest"])
@pytest.mark.parametrize("value", [None, 0])
def test_unknown_option(expected, iommufd, ioas, number, value):
    if number is None:
        number = spare_number(iommufd.uapi, "iommu_option.option_id")
    with expected:
        option(iommufd, number, value, object_id=ioas)


@rule("generic.option.reserved_before_option")
@pytest.mark.parametrize("name", ["RLIMIT_MODE", "HUGE_PAGES"])
@pytest.mark.parametrize("object_id", [0, 9999])
def test_reserved_is_told_first(expected, iommufd, name, object_id):
    number = getattr(iommufd.uapi, f"IOMMU_OPTION_{name}")
    with expected:
        option(iommufd, number, None, __reserved=1, object_id=object_id)


@rule("generic.option.rlimit_mode")
def test_rlimit_mode(iommufd):
    seen = [rlimit_mode(iommufd)]
    for value in (1, 0, 1):
        rlimit_mode(iommufd, value)
        seen.append(rlimit_mode(iommufd))
    assert seen == [0, 1, 0, 1]


@rule("generic.option.rlimit_mode_value")
@pytest.mark.parametrize("value", [2, 1 << 32, 1 << 63])
def test_rlimit_mode_value(expected, iommufd, value):
    with expected:
        rlimit_mode(iommufd, value)


@rule("generic.option.rlimit_mode_object")
@pytest.mark.parametrize("value", [None, 1])
def test_rlimit_mode_of_an_object(expected, iommufd, ioas, value):
    with expected:
        rlimit_mode(iommufd, value, object_id=ioas)


@rule("generic.option.rlimit_mode_op")
@pytest.mark.parametrize("op", [BAD_OP, 0xFFFF])
def test_rlimit_mode_op(expected, iommufd, op):
    with expected:
        rlimit_mode(iommufd, 1, op=op)


@rule("generic.option.rlimit_mode_privilege")
@pytest.mark.parametrize("value", [1, 2])
def test_rlimit_mode_needs_a_privilege(expected, iommufd, value):
    if value == 2:
        iommufd.ioas_alloc()
    iommufd.process.checked("setresuid", *3 * [UNPRIVILEGED])
    with expected:
        rlimit_mode(iommufd, value)


@pytest.mark.no_fail_nth("only root may have its calls fail")
@rule("generic.option.rlimit_mode_unprivileged_get")
def test_rlimit_mode_can_be_asked_for(expected, iommufd):
    rlimit_mode(iommufd, 1)
    iommufd.process.checked("setresuid", *3 * [UNPRIVILEGED])
    with expected:
        assert rlimit_mode(iommufd) == 1


@rule("generic.option.rlimit_mode_busy")
@pytest.mark.parametrize("value", [0, 1, 2])
def test_rlimit_mode_with_an_object(expected, iommufd, ioas, value):
    with expected:
        rlimit_mode(iommufd, value)
    ioas.destroy()
    assert rlimit_mode(iommufd) == 0


@rule("generic.option.huge_pages")
def test_huge_pages(ioas):
    seen = [huge_pages(ioas)]
    for value in (0, 1, 0):
        huge_pages(ioas, value)
        seen.append(huge_pages(ioas))
    assert seen == [1, 0, 1, 0]


@rule("generic.option.huge_pages_value")
@pytest.mark.parametrize("value", [2, 1 << 32])
def test_huge_pages_value(expected, ioas, value):
    with expected:
        huge_pages(ioas, value)


@rule("generic.option.huge_pages_op")
def test_huge_pages_op(expected, ioas):
    with expected:
        huge_pages(ioas, op=BAD_OP)


@rule("generic.option.huge_pages_object_before_op")
def test_huge_pages_of_no_object(expected, iommufd):
    with expected:
        option(iommufd, iommufd.uapi.IOMMU_OPTION_HUGE_PAGES, None, object_id=9999, op=BAD_OP)
