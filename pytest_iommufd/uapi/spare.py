# SPDX-License-Identifier: GPL-2.0-only
"""Flags and numbers of a field that a kernel's header gives no meaning: it must not accept them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pytest_iommufd.uapi.undescribed import Kind, undescribed

if TYPE_CHECKING:
    from pytest_iommufd.uapi.abi import Uapi


def spare_flags(uapi: Uapi, path: str) -> list[int]:
    """Return the flags that are not defined, lowest first.

    A constant that is not yet described may be a flag of any field: not all names tell.

    Args:
        uapi: the kernel's header.
        path: the field, `iommu_hwpt_alloc.flags`.
    """
    struct, _, field = path.partition(".")
    new = undescribed(uapi).items()
    taken = {getattr(uapi, name) for name, kind in new if kind in {Kind.FLAG, Kind.VALUE}}
    taken.update(uapi.names_of(path).values())
    bits = range(8 * uapi.sizeof(struct, field))
    return [1 << bit for bit in bits if 1 << bit not in taken]


def spare_number(uapi: Uapi, path: str) -> int:
    """Return the lowest number that is not defined."""
    taken = uapi.names_of(path).values()
    return next(number for number in itertools.count() if number not in taken)
