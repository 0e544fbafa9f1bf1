# SPDX-License-Identifier: GPL-2.0-only
"""The fields of a struct, and what a value must be to fit one."""

from __future__ import annotations

import operator
import re
from typing import Any

from pytest_iommufd.uapi.errors import UapiError, UnknownNameError, did_you_mean

_MANGLED = re.compile(r"_[A-Za-z]\w*?(__\w+)")


class Field:
    """One named member of a struct or of a struct within it.

    Attributes:
        path: the field's full name, such as `iommu_test_cmd.check_map.iova`.
        name: the last part of it.
        offset: bytes from the beginning of the innermost struct.
        size: bytes; 0 for a flexible array.
        type: its C type as the kernel spells it.
        shape: the fields of a struct member, None for any other.
        length: how many elements an array has, None when it is no array.
    """

    __slots__ = ("_high", "_low", "length", "name", "offset", "path", "shape", "size", "type")

    def __init__(self, ffi: Any, path: str, offset: int, ctype: Any) -> None:
        self.path = path
        self.name = path.rpartition(".")[2]
        self.offset = offset
        self.shape: Shape | None = None
        self.length: int | None = None
        self.size = 0
        if ctype.kind == "array":
            self.length = ctype.length or 0
            self.size = ffi.sizeof(ctype) if ctype.length else 0
            ctype = ctype.item
        else:
            self.size = ffi.sizeof(ctype)
        self.type = ctype.cname
        self._low = self._high = 0
        if ctype.kind in {"struct", "union"}:
            self.shape = Shape(ffi, path, ctype)
        elif ctype.kind == "primitive":
            bits = 8 * ffi.sizeof(ctype)
            signed = int(ffi.cast(ctype, -1)) < 0
            self._low = -(2 ** (bits - 1)) if signed else 0
            self._high = 2 ** (bits - signed) - 1
            self.type = f"__{'s' if signed else 'u'}{bits}"

    def check(self, value: object) -> int:
        """Return the value as an integer that the field holds unchanged."""
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
        if number is None or not self._low <= number <= self._high:
            raise UapiError(
                f"{self.path} = {value!r} does not fit {self.type}",
                expected=f"an integer from {self._low} to {self._high}",
            )
        return number

    def check_array(self, value: Any) -> list[int]:
        """Return the value as a list of as many integers as the array has elements."""
        try:
            numbers = [self.check(item) for item in value]
        except TypeError:
            numbers = []
        if len(numbers) != self.length:
            raise UapiError(
                f"{self.path} = {value!r} does not fit {self.type}[{self.length}]",
                expected=f"a sequence of {self.length} integers",
            )
        return numbers


class Shape:
    """The fields of a struct, those of its anonymous members among them.

    Attributes:
        name: the struct's name, or a member's full name.
        size: bytes.
        fields: by name, in the order of declaration.
        names: theirs.
    """

    __slots__ = ("_ffi", "fields", "name", "names", "size")

    def __init__(self, ffi: Any, name: str, ctype: Any) -> None:
        self._ffi = ffi
        self.name = name
        self.size: int = ffi.sizeof(ctype)
        self.fields = {
            field: Field(ffi, f"{name}.{field}", member.offset, member.type)
            for field, member in ctype.fields
        }
        self.names = tuple(self.fields)

    def new(self) -> Any:
        """Make an outermost struct of zeroes, and return a pointer to it."""
        return self._ffi.new(f"struct {self.name} *")

    def point(self, member: Any) -> Any:
        """Return a pointer to a struct in a struct."""
        return self._ffi.addressof(member)

    def buffer(self, pointer: Any) -> Any:
        """Return the memory of a struct."""
        return self._ffi.buffer(pointer)

    def field(self, name: str) -> Field:
        """Look up a field.

        Raises:
            UnknownNameError: the struct has no such field.
        """
        found = self.fields.get(name)
        if found is None and (mangled := _MANGLED.fullmatch(name)):
            # Inside a class body Python reads `s.__reserved` as `s._Class__reserved`.
            found = self.fields.get(mangled[1])
        if found is None:
            raise UnknownNameError(
                f"struct {self.name} has no field {name}{did_you_mean(name, self.fields)}",
                missing=f"{self.name}.{name}",
                expected=f"one of {', '.join(self.fields)}",
            )
        return found

    def walk(self) -> list[tuple[str, int]]:
        """Full name and offset from the outermost struct of every field, nested ones included."""
        found = []
        for field in self.fields.values():
            found.append((field.path, field.offset))
            if field.shape and field.length is None:
                found += [(path, field.offset + offset) for path, offset in field.shape.walk()]
        return found
