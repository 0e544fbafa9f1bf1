# SPDX-License-Identifier: GPL-2.0-only
"""Data types of nested HWPTs, each declared once; suites/hwpt_type has what follows from it."""

from pytest_iommufd.hwpt_types.declaration import Event, HwptType, Invalidation, ViommuType
from pytest_iommufd.hwpt_types.values import AnyValue, Bits, OneOf, Reserved, Within

__all__ = [
    "AnyValue",
    "Bits",
    "Event",
    "HwptType",
    "Invalidation",
    "OneOf",
    "Reserved",
    "ViommuType",
    "Within",
]
