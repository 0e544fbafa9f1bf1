# SPDX-License-Identifier: GPL-2.0-only
"""The objects that a test talks to: an open /dev/iommu and what is made through it."""

from pytest_iommufd.iommufd.context import Context
from pytest_iommufd.iommufd.device import MockDevice
from pytest_iommufd.iommufd.expecting import raises_errno
from pytest_iommufd.iommufd.fault import FaultQueue
from pytest_iommufd.iommufd.hwpt import Hwpt, HwptData, UserData
from pytest_iommufd.iommufd.ioas import Ioas
from pytest_iommufd.iommufd.memory import Buffer
from pytest_iommufd.iommufd.request import Call, IoctlError, Request
from pytest_iommufd.iommufd.vfio_device import VfioDevice
from pytest_iommufd.iommufd.viommu import Viommu

__all__ = [
    "Buffer",
    "Call",
    "Context",
    "FaultQueue",
    "Hwpt",
    "HwptData",
    "Ioas",
    "IoctlError",
    "MockDevice",
    "Request",
    "UserData",
    "VfioDevice",
    "Viommu",
    "raises_errno",
]
