# SPDX-License-Identifier: GPL-2.0-only
"""Names that the headers lack, files that are no description, and error numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pytest_iommufd.errors import Problem
from pytest_iommufd.uapi import Uapi, UapiError, UnknownNameError, errno_name, errno_number

if TYPE_CHECKING:
    from pathlib import Path

IOMMUFD = "include/uapi/linux/iommufd.h"
TEST = "drivers/iommu/iommufd/iommufd_test.h"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "IOMMU_HWPT_ALLOC_NEST_PARNT",
            f"no constant of {IOMMUFD} of 7.3; did you mean IOMMU_HWPT_ALLOC_NEST_PARENT?",
        ),
        (
            "MOCK_FLAGS_DEVICE_PSID",
            f"no constant of {TEST} of 7.3; did you mean MOCK_FLAGS_DEVICE_PASID?",
        ),
        ("QQQ", f"no constant of {IOMMUFD} of 7.3"),
    ],
)
def test_unknown_constant(newest: Uapi, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        getattr(newest, name)
    assert str(error.value) == f"{name} is {message}"


def test_an_unknown_name_is_a_problem_and_an_attribute_error(newest: Uapi) -> None:
    assert not hasattr(newest, "IOMMU_NO_SUCH")
    assert getattr(newest, "IOMMU_NO_SUCH", 7) == 7
    assert issubclass(UnknownNameError, UapiError)
    assert issubclass(UapiError, Problem)
    assert not issubclass(UapiError, AttributeError)


def test_unknown_struct(newest: Uapi) -> None:
    with pytest.raises(UnknownNameError) as error:
        newest.struct("iommu_hwpt_aloc")
    assert str(error.value) == (
        f"iommu_hwpt_aloc is no struct of {IOMMUFD} of 7.3; did you mean iommu_hwpt_alloc?"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hwpt_aloc", f"hwpt_aloc is no ioctl of {IOMMUFD} of 7.3; did you mean hwpt_alloc?"),
        (
            "IOMMU_HWPT_ALOC",
            f"IOMMU_HWPT_ALOC is no ioctl of {IOMMUFD} of 7.3; did you mean IOMMU_HWPT_ALLOC?",
        ),
        ("test_cmt", f"test_cmt is no ioctl of {TEST} of 7.3; did you mean test_cmd?"),
    ],
)
def test_unknown_ioctl(newest: Uapi, name: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as error:
        newest.ioctl(name)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("IOMMU_HWPT_ALLOC", "iommu_hwpt_alloc"),
        ("fault_queue_alloc", "iommu_fault_alloc"),
        ("get_hw_info", "iommu_hw_info"),
        ("VFIO_IOMMU_MAP_DMA", "vfio_iommu_type1_dma_map"),
        ("VFIO_DEVICE_BIND_IOMMUFD", "vfio_device_bind_iommufd"),
        ("VFIO_GET_API_VERSION", ""),
    ],
)
def test_struct_of_an_ioctl(newest: Uapi, name: str, struct: str) -> None:
    assert newest.ioctl(name).struct == struct


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("IOMMU_HWPT_ALLOC", True),
        ("IOMMU_HWPT_ALLOC_NEVER", False),
        ("iommu_hwpt_alloc", True),
        ("iommu_hwpt_alloc.fault_id", True),
        ("iommu_hwpt_alloc.fault", False),
        ("iommu_never.size", False),
        ("iommu_test_cmd.mock_domain_flags.dev_flags", True),
        ("iommu_test_cmd.op.dev_flags", False),
    ],
)
def test_has(newest: Uapi, *, name: str, there: bool) -> None:
    assert newest.has(name) is there


def test_offsets_count_from_the_outermost_struct(newest: Uapi) -> None:
    assert newest.offsetof("iommu_test_cmd", "mock_domain_flags.dev_flags") == 28
    assert newest.sizeof("iommu_test_cmd", "mock_domain_flags.dev_flags") == 4
    assert newest.offsetof("iommu_hw_info", "out_data_type") == 24


@pytest.mark.parametrize("text", ["", "[]", "{}", "no json"])
def test_a_file_that_is_no_description(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UapiError) as error:
        Uapi.load(path)
    assert error.value.what.startswith(f"{path} is no description of a kernel's headers: ")
    assert error.value.mend == f"python -m pytest_iommufd.uapi.describe KERNEL_TREE {path}"


def test_a_description_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": 0}))
    with pytest.raises(UapiError) as error:
        Uapi.load(path)
    assert error.value.what == f"{path} has format 0"
    assert error.value.expected == "format 1"


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (22, "EINVAL"),
        (11, "EAGAIN"),
        (35, "EDEADLK"),
        (95, "EOPNOTSUPP"),
        (512, "ERESTARTSYS"),
        (515, "ENOIOCTLCMD"),
        (524, "ENOTSUPP"),
        (4095, "errno 4095"),
        (0, "errno 0"),
    ],
)
def test_errno_name(number: int, name: str) -> None:
    assert errno_name(number) == name


def test_errno_number() -> None:
    assert errno_number("EINVAL") == 22
    assert errno_number("ENOTSUP") == errno_number("EOPNOTSUPP") == 95
    assert errno_number("ENOTSUPP") == 524
    with pytest.raises(UnknownNameError) as error:
        errno_number("EINVALL")
    assert str(error.value) == "EINVALL is no errno; did you mean EINVAL?"
