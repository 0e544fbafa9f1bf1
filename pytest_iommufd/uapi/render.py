# SPDX-License-Identifier: GPL-2.0-only
"""A struct's values for people to read: names for flags and for values that have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_iommufd.uapi.tables import MASKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_iommufd.uapi.names import Names
    from pytest_iommufd.uapi.shape import Field, Shape


def render(struct: Any, shape: Shape, known: Names) -> str:
    """List a struct's fields and values, `flags=IOMMU_HWPT_ALLOC_NEST_PARENT|0x80, ...`."""
    fields = list(shape.fields.values())
    if shape.name == "iommu_test_cmd":
        # Its members share their memory: only the operation's own says anything.
        member = known.test_member(struct["op"])
        fields = [field for field in fields if field.shape is None or field.name == member]
    return ", ".join(f"{field.name}={_value(struct, field, known)}" for field in fields)


def _value(struct: Any, field: Field, known: Names) -> str:
    value = struct[field.name]
    if field.length is not None:
        return str(list(value))
    if field.shape is not None:
        return f"{{{render(value, field.shape, known)}}}"
    names = known.names_of(field.path)
    if field.name in MASKS:
        return _mask(value, names)
    for name, number in names.items():
        if number == value:
            return name
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
