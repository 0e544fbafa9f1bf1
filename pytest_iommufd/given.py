# SPDX-License-Identifier: GPL-2.0-only
"""Numbers that calls gave, and bytes with such numbers in them, which remember where they are from.

They are ints and bytes to everybody but to who wants to make the same calls again.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Self, overload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import SupportsIndex


class Given(int):
    """An id, a file descriptor, an address or whatever else a call gave.

    Sums with it are from there, too. All else that is computed of it is a plain int.

    Attributes:
        source: what gave it: a struct that a call wrote to, or what stands for a call's value.
        at: of a struct, the field's offset in bytes.
        offset: what was added to it since.
    """

    source: object
    at: int
    offset: int

    def __new__(cls, value: int, source: object = None, at: int = 0, offset: int = 0) -> Self:
        """Take note of a number; without a source it is one of its own."""
        made = super().__new__(cls, value)
        made.source = object() if source is None else source
        made.at, made.offset = at, offset
        return made

    def __add__(self, other: int) -> Given:
        total = super().__add__(other)
        if total is NotImplemented:
            return NotImplemented
        return Given(total, self.source, self.at, self.offset + int(other))

    __radd__ = __add__

    def __sub__(self, other: int) -> int:
        return int(self) - int(other) if isinstance(other, Given) else self + -other

    def __index__(self) -> int:
        """Stand for itself where an object is asked for its number, and not for a plain int."""
        return self


class Packed(bytes):
    """Bytes of a struct, or other ones, with what calls gave in them.

    Sums and slices of them remember it.

    Attributes:
        given: numbers in them, by offset.
        struct: the struct that they begin with, or None.
    """

    given: Mapping[int, Given]
    struct: Any

    def __new__(cls, content: bytes, given: Mapping[int, Given], struct: Any = None) -> Self:
        """Take note of what is in some bytes."""
        made = super().__new__(cls, content)
        made.given, made.struct = given, struct
        return made

    def __add__(self, other: Any) -> Packed:
        behind = {len(self) + at: number for at, number in given_in(other).items()}
        return Packed(super().__add__(other), {**self.given, **behind}, self.struct)

    def __radd__(self, other: bytes) -> Packed:
        return Packed(other, {}) + Packed(self, self.given)

    def ljust(self, width: SupportsIndex, fill: bytes | bytearray = b"\0", /) -> Packed:
        """Put bytes behind until there are so many."""
        return self + bytes(fill) * (width.__index__() - len(self))

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        first, end, step = key.indices(len(self))
        within = {at - first: number for at, number in self.given.items() if first <= at < end}
        whole = self.struct is not None and not first and end >= self.struct.sizeof
        found = super().__getitem__(key)
        return Packed(found, within, self.struct if whole else None) if step == 1 else found


def given_in(content: bytes) -> Mapping[int, Given]:
    """Return the numbers in bytes that calls gave, by offset."""
    return content.given if isinstance(content, Packed) else {}


def pack(layout: str, *values: int) -> bytes:
    """Pack numbers as struct.pack() does, with a note of those that calls gave.

    Args:
        layout: its format: a byte order, and one character for each value.
        values: the numbers.
    """
    order, kinds = layout[0], layout[1:]
    given = {
        struct.calcsize(order + kinds[:index]): value
        for index, value in enumerate(values)
        if isinstance(value, Given)
    }
    return Packed(struct.pack(layout, *values), given)
