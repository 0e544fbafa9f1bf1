# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin and selftest suite for the Linux kernel's iommufd uAPI."""

from pytest_iommufd.errors import Problem
from pytest_iommufd.hwpt_types import (
    AnyValue,
    Bits,
    Event,
    HwptType,
    Invalidation,
    OneOf,
    Reserved,
    ViommuType,
    Within,
)
from pytest_iommufd.iommufd import IoctlError, raises_errno
from pytest_iommufd.rules.marker import absent, rule

__all__ = [
    "AnyValue",
    "Bits",
    "Event",
    "HwptType",
    "Invalidation",
    "IoctlError",
    "OneOf",
    "Problem",
    "Reserved",
    "ViommuType",
    "Within",
    "absent",
    "raises_errno",
    "rule",
]
