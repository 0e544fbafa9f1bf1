# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's iommufd ABI, read from that kernel's headers.

`describe.describe` reads a tree's headers into a JSON description, with a compiler; `Uapi` loads
one, without. `describe` is a module to import by itself, since it is a program too.
"""

from pytest_iommufd.uapi.abi import Ioctl, Uapi
from pytest_iommufd.uapi.errnos import errno_name, errno_number
from pytest_iommufd.uapi.errors import UapiError, UnknownNameError
from pytest_iommufd.uapi.record import Struct

__all__ = [
    "Ioctl",
    "Struct",
    "Uapi",
    "UapiError",
    "UnknownNameError",
    "errno_name",
    "errno_number",
]
