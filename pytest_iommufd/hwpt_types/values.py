# SPDX-License-Identifier: GPL-2.0-only
"""Which values a field of a driver's data may take, and what the driver says to others."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_iommufd.uapi import Uapi

Number = int | str


def number(value: Number, uapi: Uapi) -> int:
    """Return a number, or the value of a constant of the header.

    Raises:
        UnknownNameError: the header has no such constant.
    """
    return getattr(uapi, value) if isinstance(value, str) else value


class Values(abc.ABC):
    """The values of a field.

    Attributes:
        errno: the name of the errno for any other value.
        defect: why a driver is known to take other values instead, "" where none does.
    """

    errno: str
    defect: str = ""

    @abc.abstractmethod
    def inside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return values that a field of so many bits takes: the edges, and each bit alone."""

    @abc.abstractmethod
    def outside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return the values next to those that it takes, or each bit that it does not."""

    @abc.abstractmethod
    def has(self, value: int, uapi: Uapi) -> bool:
        """Tell whether a field takes a value."""

    @abc.abstractmethod
    def describe(self, uapi: Uapi) -> str:
        """Say it in words, for messages."""


@dataclass(frozen=True)
class AnyValue(Values):
    """Any value is taken."""

    errno: str = ""

    def inside(self, bits: int, uapi: Uapi) -> list[int]:  # noqa: ARG002 - as all values have it
        """Return the least value, one, and the greatest."""
        return [0, 1, (1 << bits) - 1]

    def outside(self, bits: int, uapi: Uapi) -> list[int]:  # noqa: ARG002
        """Return nothing."""
        return []

    def has(self, value: int, uapi: Uapi) -> bool:  # noqa: ARG002
        """Tell that it does."""
        return True

    def describe(self, uapi: Uapi) -> str:  # noqa: ARG002
        """Say so."""
        return "any value"


@dataclass(frozen=True, init=False)
class Bits(Values):
    """Flags, or an address with bits that must be 0.

    Args:
        known: the bits that may be set, as masks or as names of constants.
        errno: the errno for any other bit.
        defect: why a driver is known to take any bit instead.
    """

    known: tuple[Number, ...]
    errno: str
    defect: str

    def __init__(self, *known: Number, errno: str = "EOPNOTSUPP", defect: str = "") -> None:
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "errno", errno)
        object.__setattr__(self, "defect", defect)

    def _mask(self, uapi: Uapi) -> int:
        mask = 0
        for known in self.known:
            mask |= number(known, uapi)
        return mask

    def inside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return none, all, and each bit alone."""
        mask = self._mask(uapi)
        alone = [1 << bit for bit in range(bits) if mask >> bit & 1]
        return list(dict.fromkeys((0, mask, *alone)))

    def outside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return each other bit."""
        mask = self._mask(uapi)
        return [1 << bit for bit in range(bits) if not mask >> bit & 1]

    def has(self, value: int, uapi: Uapi) -> bool:
        """Tell whether no other bit is set."""
        return not value & ~self._mask(uapi)

    def describe(self, uapi: Uapi) -> str:
        """Name the bits."""
        return f"bits of {self._mask(uapi):#x}" if self.known else "0"


class Reserved(Bits):
    """Bits that must be 0. A field whose name begins with `__reserved` has this by itself."""

    def __init__(self, *, errno: str = "EOPNOTSUPP", defect: str = "") -> None:
        super().__init__(errno=errno, defect=defect)


@dataclass(frozen=True, init=False)
class OneOf(Values):
    """One of several values.

    Args:
        values: numbers, or names of constants.
        errno: the errno for any other.
    """

    values: tuple[Number, ...]
    errno: str

    def __init__(self, *values: Number, errno: str = "EINVAL") -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "errno", errno)

    def inside(self, bits: int, uapi: Uapi) -> list[int]:  # noqa: ARG002
        """Return each."""
        return [number(value, uapi) for value in self.values]

    def outside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return 0, the greatest value, and the neighbours of each, but for those that are in."""
        known = self.inside(bits, uapi)
        near = {0, (1 << bits) - 1, *(value + step for value in known for step in (-1, 1))}
        return sorted(value for value in near - set(known) if 0 <= value < 1 << bits)

    def has(self, value: int, uapi: Uapi) -> bool:
        """Tell whether it is one."""
        return value in self.inside(0, uapi)

    def describe(self, uapi: Uapi) -> str:
        """List them."""
        return f"one of {', '.join(map(str, self.inside(0, uapi)))}"


@dataclass(frozen=True)
class Within(Values):
    """A range.

    Attributes:
        least, greatest: numbers, or names of constants; both are in it.
        errno: the errno for any other.
    """

    least: Number
    greatest: Number
    errno: str = "EINVAL"

    def _range(self, uapi: Uapi) -> range:
        return range(number(self.least, uapi), number(self.greatest, uapi) + 1)

    def inside(self, bits: int, uapi: Uapi) -> list[int]:  # noqa: ARG002
        """Return both ends."""
        found = self._range(uapi)
        return [found[0], found[-1]]

    def outside(self, bits: int, uapi: Uapi) -> list[int]:
        """Return what is next to the ends, and the greatest value of all."""
        found = self._range(uapi)
        near = (found[0] - 1, found[-1] + 1, (1 << bits) - 1)
        return [
            value for value in dict.fromkeys(near) if 0 <= value < 1 << bits and value not in found
        ]

    def has(self, value: int, uapi: Uapi) -> bool:
        """Tell whether it is in between."""
        return value in self._range(uapi)

    def describe(self, uapi: Uapi) -> str:
        """Name the ends."""
        found = self._range(uapi)
        return f"{found[0]} to {found[-1]}"
