# SPDX-License-Identifier: GPL-2.0-only
"""A struct's values for people to read: names for flags and for values that have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_iommufd.uapi.tables import MASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_iommufd.uapi.abi import Uapi
    from pytest_iommufd.uapi.record import Struct
    from pytest_iommufd.uapi.shape import Field, Shape


def render(struct: Struct, shape: Shape, uapi: Uapi) -> str:
    """List a struct's fields and values, `flags=IOMMU_HWPT_ALLOC_NEST_PARENT|0x80, ...`."""
    fields = list(shape.fields.values())
    if struct.name == "iommu_test_cmd":
        # Its members share their memory: only the operation's own says anything.
        member = uapi.test_member(struct["op"])
        fields = [field for field in fields if field.shape is None or field.name == member]
    return ", ".join(f"{field.name}={_value(struct, field, uapi)}" for field in fields)


def _value(struct: Struct, field: Field, uapi: Uapi) -> str:
    value = struct[field.name]
    if field.length is not None:
        return str(list(value))
    if field.shape is not None:
        return f"{{{render(value, field.shape, uapi)}}}"
    names = uapi.names_of(field.path)
    if field.name in MASKS:
        return _mask(value, names)
    for known, number in names.items():
        if number == value:
            return known
    # What is 64 bits wide is an address or a length of memory.
    return hex(value) if field.size == 8 and value > 9 else str(value)


def _mask(value: int, names: Mapping[str, int]) -> str:
    parts = []
    for name, bit in names.items():
        if bit and value & bit == bit:
            parts.append(name)
            value &= ~bit
    if value:
        parts.append(hex(value))
    return "|".join(parts) or "0"
