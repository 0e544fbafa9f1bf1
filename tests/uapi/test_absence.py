# SPDX-License-Identifier: GPL-2.0-only
"""What the ABI of a kernel without iommufd_test is, and what it says of names that are missing."""

from __future__ import annotations

import pytest

from pytest_iommufd.uapi import Uapi, UnknownNameError
from pytest_iommufd.uapi.absence import NO_IOMMUFD_TEST, why_absent, without_iommufd_test

OF_TEST = (
    "IOMMU_TEST_CMD",
    "IOMMU_TEST_OP_MOCK_DOMAIN",
    "MOCK_APERTURE_START",
    "IOMMU_HWPT_DATA_SELFTEST",
    "iommu_test_cmd.op",
    "iommu_hwpt_selftest",
    "iommu_hwpt_selftest.pagetable_type",
)
OF_IOMMUFD = ("IOMMU_HWPT_ALLOC", "iommu_hwpt_alloc.data_type", "VFIO_DEVICE_BIND_IOMMUFD")


@pytest.fixture
def without(newest: Uapi) -> Uapi:
    return without_iommufd_test(newest)


@pytest.mark.parametrize("name", OF_TEST)
def test_names_of_iommufd_test_are_gone(newest: Uapi, without: Uapi, name: str) -> None:
    assert why_absent(newest, name) == ""
    assert why_absent(without, name) == NO_IOMMUFD_TEST


@pytest.mark.parametrize("name", OF_IOMMUFD)
def test_all_others_stay(without: Uapi, name: str) -> None:
    assert why_absent(without, name) == ""


def test_only_the_test_command_is_gone(newest: Uapi, without: Uapi) -> None:
    gone = {ioctl.name for ioctl in newest.ioctls} - {ioctl.name for ioctl in without.ioctls}
    assert gone == {"IOMMU_TEST_CMD"}


def test_the_use_of_a_name_that_is_gone_says_why(without: Uapi) -> None:
    with pytest.raises(UnknownNameError) as error:
        _ = without.MOCK_APERTURE_START
    assert (error.value.missing, error.value.lacks) == ("MOCK_APERTURE_START", NO_IOMMUFD_TEST)


def test_another_name_is_missing_in_the_header(without: Uapi) -> None:
    assert why_absent(without, "IOMMU_WHAT") == "the kernel's header does not define IOMMU_WHAT"
    with pytest.raises(UnknownNameError) as error:
        _ = without.IOMMU_WHAT
    assert error.value.lacks == "the kernel's header does not define IOMMU_WHAT"
