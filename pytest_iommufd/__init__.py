# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin and selftest suite for the Linux kernel's iommufd uAPI.

The names are those that tests are written with; each is imported when it is first asked for, since
every run of pytest where this is installed imports this package.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from pytest_iommufd.iommufd import (
        Buffer,
        Context,
        FaultQueue,
        Hwpt,
        HwptData,
        Ioas,
        IoctlError,
        MockDevice,
        VfioDevice,
        Viommu,
        raises_errno,
    )
    from pytest_iommufd.machine import Machine, Process
    from pytest_iommufd.rules.expectation import Expectation
    from pytest_iommufd.rules.marker import absent, rule
    from pytest_iommufd.uapi import Uapi

__all__ = [
    "AnyValue",
    "Bits",
    "Buffer",
    "Context",
    "Event",
    "Expectation",
    "FaultQueue",
    "Hwpt",
    "HwptData",
    "HwptType",
    "Invalidation",
    "Ioas",
    "IoctlError",
    "Machine",
    "MockDevice",
    "OneOf",
    "Problem",
    "Process",
    "Reserved",
    "Uapi",
    "VfioDevice",
    "Viommu",
    "ViommuType",
    "Within",
    "absent",
    "raises_errno",
    "rule",
]

# Where they are; those that cost little first.
_ROOMS = (
    "errors",
    "rules.marker",
    "uapi",
    "machine",
    "iommufd",
    "hwpt_types",
    "rules.expectation",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for room in _ROOMS:
            module = importlib.import_module(f"{__name__}.{room}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
