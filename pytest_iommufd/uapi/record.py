# SPDX-License-Identifier: GPL-2.0-only
"""A struct with values in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from pytest_iommufd.given import Given, Packed, given_in
from pytest_iommufd.uapi.errors import UapiError
from pytest_iommufd.uapi.render import render

if TYPE_CHECKING:
    from pytest_iommufd.uapi.names import Names
    from pytest_iommufd.uapi.shape import Field, Shape


class Struct:
    """A kernel struct whose fields are attributes, and items for names that Python reserves.

    An unknown field and a value that does not fit are errors, in setting too. A struct member is
    a Struct that shares its owner's memory and may be set from a dict. Two structs are equal when
    their names and bytes are. Numbers read from it remember that they are from here, and its bytes
    which numbers that calls gave were put there.

    Attributes:
        name: the struct's name in the kernel's headers.
        sizeof: its size in bytes, whatever its `size` field says.
    """

    __slots__ = ("_at", "_given", "_known", "_owner", "_pointer", "_shape")

    _at: int
    _given: dict[int, Given]
    _known: Names
    _owner: Struct | None
    _pointer: Any
    _shape: Shape

    def __init__(
        self, known: Names, shape: Shape, pointer: Any, owner: Struct | None = None, at: int = 0
    ) -> None:
        set_own = object.__setattr__
        set_own(self, "_known", known)
        set_own(self, "_shape", shape)
        set_own(self, "_pointer", pointer)
        # cffi frees the memory with its owner, however many members still refer to it.
        set_own(self, "_owner", owner)
        set_own(self, "_at", at)
        set_own(self, "_given", {} if owner is None else owner._given)  # noqa: SLF001 - of its class

    @property
    def name(self) -> str:
        """The struct's name in the kernel's headers."""
        return self._shape.name

    @property
    def sizeof(self) -> int:
        """Its size in bytes."""
        return self._shape.size

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of its fields, in the header's order."""
        return self._shape.names

    def offset(self, name: str) -> int:
        """Offset in bytes of a field from the struct's beginning."""
        return self._shape.field(name).offset

    def load(self, data: bytes) -> Self:
        """Overwrite the struct from its beginning with as much of `data` as fits.

        Args:
            data: what the kernel wrote; bytes that it lacks stay as they are.

        Returns:
            The struct itself.
        """
        count = min(len(data), self.sizeof)
        self._buffer()[:count] = data[:count]
        for at, number in given_in(data).items():
            self._given[self._at + at] = number
        return self

    def replace(self, **fields: object) -> Struct:
        """Copy the struct with some fields changed.

        Args:
            fields: new values by name.

        Returns:
            The copy; the original is unchanged.
        """
        copy = Struct(self._known, self._shape, self._shape.new()).load(bytes(self))
        copy.update(fields)
        return copy

    def update(self, fields: Mapping[str, object]) -> None:
        """Set several fields."""
        for name, value in fields.items():
            self[name] = value

    def __getitem__(self, name: str) -> Any:
        field = self._shape.field(name)
        value = getattr(self._pointer, field.name)
        if field.length is not None:
            return tuple(self._member(field, item) for item in value) if field.length else ()
        return self._member(field, value)

    def __setitem__(self, name: str, value: Any) -> None:
        field = self._shape.field(name)
        if field.shape is None and field.length is None:
            if type(value) is not int and hasattr(type(value), "__index__"):
                value = value.__index__()
                if isinstance(value, Given):
                    self._given[self._at + field.offset] = value
            setattr(self._pointer, field.name, field.check(value))
        elif field.shape is None:
            checked = field.check_array(value)
            if field.length:
                setattr(self._pointer, field.name, checked)
        elif isinstance(value, Mapping) and field.length is None:
            self[name].update(value)
        elif isinstance(value, Struct) and value.sizeof == field.size:
            self[name].load(bytes(value))
        else:
            raise UapiError(
                f"{field.path} = {value!r} does not fit a struct",
                expected=f"a dict with fields of {', '.join(field.shape.fields)}",
            )

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._shape.fields]

    def __bytes__(self) -> bytes:
        content = bytes(self._buffer())
        return Packed(content, dict(self._given), self) if self._owner is None else content

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Struct):
            return NotImplemented
        return self.name == other.name and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]  # its bytes change

    def __repr__(self) -> str:
        return f"struct {self.name}({render(self, self._shape, self._known)})"

    def _member(self, field: Field, value: Any) -> Any:
        owner, at = self._owner or self, self._at + field.offset
        if field.shape:
            return Struct(self._known, field.shape, field.shape.point(value), owner, at)
        is_number = isinstance(value, int) and field.length is None
        return Given(value, owner, at) if is_number else value

    def _buffer(self) -> Any:
        return self._shape.buffer(self._pointer)
