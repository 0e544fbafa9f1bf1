# SPDX-License-Identifier: GPL-2.0-only
"""A kernel's iommufd ABI, from a description of its headers."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cffi import FFI

from pytest_iommufd.uapi.errors import UapiError, UnknownNameError, did_you_mean
from pytest_iommufd.uapi.names import Names
from pytest_iommufd.uapi.record import Struct
from pytest_iommufd.uapi.shape import Field, Shape
from pytest_iommufd.uapi.tables import STRUCT_OF_IOCTL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT = 1

_KERNEL_INTEGER = re.compile(r"\b__(?:(u|s)|le|be)(8|16|32|64)\b")


@dataclass(frozen=True, slots=True)
class Ioctl:
    """A command of the ABI.

    Attributes:
        name: the header's name for it, such as `IOMMU_HWPT_ALLOC`.
        number: the number that ioctl(2) takes.
        struct: the name of the struct that goes with it, empty when none does.
    """

    name: str
    number: int
    struct: str


class Uapi(Names):
    """The structs, constants and commands of one kernel's headers.

    Constants are attributes: `uapi.IOMMU_HWPT_ALLOC_NEST_PARENT`.

    Args:
        description: what `describe` wrote, parsed.
        name: how messages call this ABI.
        path: the file it came from, if any.

    Attributes:
        name: how messages call this ABI.
        path: the file it came from, if any.
        kernel: the version of the kernel it describes, such as `7.3.4`.
        headers: the headers it was read from, relative to the kernel tree.
        ioctls: all of iommufd's commands, the test command included where there is one.
        commands: those, and VFIO's.
    """

    def __init__(self, description: dict[str, Any], name: str, path: Path | None = None) -> None:
        self.name = name
        self.path = path
        self.kernel: str = description["kernel"]
        self.headers: tuple[str, ...] = tuple(description["headers"])
        commands: dict[str, int] = description["ioctls"]
        super().__init__(description["enums"], description["constants"], commands)
        self._declarations = [
            _KERNEL_INTEGER.sub(_stdint, struct["decl"])
            for struct in description["structs"].values()
        ]
        self._structs: dict[str, str] = {
            name: struct["decl"] for name, struct in description["structs"].items()
        }
        self._shapes: dict[str, Shape] = {}
        self._ffi = _declared("\n".join(self._declarations))
        self._ioctls = {name: self._ioctl(name, number) for name, number in commands.items()}
        self.commands = tuple(self._ioctls.values())
        self.ioctls = tuple(
            ioctl for name, ioctl in self._ioctls.items() if name.startswith("IOMMU_")
        )

    @classmethod
    def load(cls, path: Path) -> Uapi:
        """Load a description that `describe` wrote.

        Args:
            path: the JSON file.

        Raises:
            UapiError: the file is no description, or one of another format.
        """
        try:
            description = json.loads(path.read_bytes())
            form = description["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UapiError(
                f"{path} is no description of a kernel's headers: {error}",
                mend=f"python -m pytest_iommufd.uapi.describe KERNEL_TREE {path}",
            ) from error
        if form != FORMAT:
            raise UapiError(
                f"{path} has format {form}",
                expected=f"format {FORMAT}",
                mend=f"python -m pytest_iommufd.uapi.describe KERNEL_TREE {path}",
            )
        return cls(description, path.stem, path)

    @classmethod
    def shipped(cls) -> tuple[Uapi, ...]:
        """The descriptions that come with the plugin, newest kernel first."""
        return _shipped()

    def __repr__(self) -> str:
        return f"Uapi({self.name}, kernel {self.kernel})"

    def __getattr__(self, name: str) -> int:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._constants[name]
        except KeyError:
            raise self._unknown(name, self._constants) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._constants]

    def has(self, name: str) -> bool:
        """Tell whether the headers have a constant, a struct or a `struct.field`."""
        struct, _, path = name.partition(".")
        if not path:
            return name in self._constants or name in self._structs
        try:
            self._find(struct, path)
        except UnknownNameError:
            return False
        return True

    @property
    def structs(self) -> list[str]:
        """Names of all structs."""
        return list(self._structs)

    def is_of_iommufd(self, name: str) -> bool:
        """Tell whether a name can be one of iommufd.h: not of iommufd_test.h, and not VFIO's."""
        return _header_of(name) == "include/uapi/linux/iommufd.h"

    def struct(self, name: str, /, **fields: object) -> Struct:
        """Make a struct: zeroes, but for the fields given.

        Args:
            name: the struct's name in the headers.
            fields: values by name; a dict for a member that is a struct.

        Raises:
            UnknownNameError: no such struct or field.
            UapiError: a value that does not fit its field.
        """
        shape = self._shape(name)
        made = Struct(self, shape, shape.new())
        made.update(fields)
        return made

    def sizeof(self, name: str, field: str = "") -> int:
        """Size in bytes of a struct, or of one of its fields (`mock_domain.out_stdev_id` too)."""
        return self._find(name, field)[0].size if field else self._shape(name).size

    def offsetof(self, name: str, field: str) -> int:
        """Offset in bytes of a field from the struct's beginning."""
        return self._find(name, field)[1]

    def fields(self, name: str) -> tuple[str, ...]:
        """Names of a struct's fields in order, those of anonymous members among them."""
        return self._shape(name).names

    def ioctl(self, name: str) -> Ioctl:
        """Look up a command.

        Args:
            name: `IOMMU_HWPT_ALLOC`, or `hwpt_alloc` for short; VFIO's by their full names.

        Raises:
            UnknownNameError: the headers have no such command.
        """
        short = name.islower()
        found = self._ioctls.get(f"IOMMU_{name.upper()}" if short else name)
        if found is None:
            known = [ioctl.name for ioctl in self.ioctls]
            if short:
                known = [other.removeprefix("IOMMU_").lower() for other in known]
            full = f"IOMMU_{name.upper()}" if short else name
            raise self._unknown(name, known, kind="no ioctl", full=full)
        return found

    def declaration(self, name: str) -> str:
        """C text of a struct, as the header has it.

        Raises:
            UnknownNameError: no such struct.
        """
        if name not in self._structs:
            raise self._unknown(name, self._structs, kind="no struct")
        return self._structs[name]

    def layout(self) -> dict[str, int]:
        """Size of every struct (`iommu_hwpt_alloc`), offset of every field (`...alloc.flags`)."""
        found = {}
        for name in sorted(self._structs):
            shape = self._shape(name)
            found[name] = shape.size
            found.update(shape.walk())
        return found

    def layout_source(self) -> str:
        """C text with the structs and a table `layout` of what the compiler made of them."""
        entries = []
        for key in self.layout():
            struct, _, path = key.partition(".")
            value = f"offsetof(struct {struct}, {path})" if path else f"sizeof(struct {struct})"
            entries.append(f'\t{{ "{key}", {value} }},')
        return "\n".join(
            [
                "#include <stddef.h>",
                "#include <stdint.h>",
                "",
                *self._declarations,
                "",
                "struct layout_entry {",
                "\tconst char *name;",
                "\tunsigned long value;",
                "};",
                "",
                "static const struct layout_entry layout[] = {",
                *entries,
                "};",
                "",
            ]
        )

    def check_layout(self, layout: Mapping[str, int], *, who: str = "the agent") -> None:
        """Compare what a compiler made of the structs with what cffi does.

        Args:
            layout: sizes and offsets under the names that `layout_source` gives them.
            who: whose layout it is, for the message.

        Raises:
            UapiError: the first struct or field that differs, or that only one side has.
        """
        for key, ours in self.layout().items():
            theirs = layout.get(key)
            if theirs == ours:
                continue
            what = "at offset" if "." in key else "with size"
            seen = "no such name" if theirs is None else f"it {what} {theirs}"
            raise UapiError(
                f"struct {key}: {who} has {seen}, the description {self.name} has it {what} {ours}"
            )
        if extra := sorted(layout.keys() - self.layout().keys()):
            raise UapiError(
                f"struct {extra[0]}: {who} has it, the description {self.name} does not"
            )

    def _ioctl(self, name: str, number: int) -> Ioctl:
        struct = STRUCT_OF_IOCTL.get(name, name.lower())
        return Ioctl(name, number, struct if struct in self._structs else "")

    def _shape(self, name: str) -> Shape:
        if name not in self._shapes:
            if name not in self._structs:
                raise self._unknown(name, self._structs, kind="no struct")
            self._shapes[name] = Shape(self._ffi, name, self._ffi.typeof(f"struct {name}"))
        return self._shapes[name]

    def _find(self, struct: str, path: str) -> tuple[Field, int]:
        shape = self._shape(struct)
        *outer, last = path.split(".")
        offset = 0
        for name in outer:
            field = shape.field(name)
            offset += field.offset
            if field.shape is None:
                raise UnknownNameError(f"{field.path} is {field.type} and has no fields")
            shape = field.shape
        return shape.field(last), offset + shape.field(last).offset

    def _unknown(
        self, name: str, known: Iterable[str], *, kind: str = "no constant", full: str = ""
    ) -> UnknownNameError:
        full = full or name
        header = _header_of(full)
        message = f"{name} is {kind} of {header} of {self.name}"
        if header in self.headers:
            return UnknownNameError(message + did_you_mean(name, known), missing=full)
        return UnknownNameError(message, expected=f"a kernel tree that has {header}; this had none")


def _header_of(name: str) -> str:
    if re.match(r"MOCK_|.*_?(TEST|SELFTEST)(_|$)", name, re.IGNORECASE):
        return "drivers/iommu/iommufd/iommufd_test.h"
    if name.lower().startswith("vfio_"):
        return "include/uapi/linux/vfio.h"
    return "include/uapi/linux/iommufd.h"


def _stdint(match: re.Match[str]) -> str:
    # A program that includes a header of the kernel's must not see its types defined twice.
    return f"{'int' if match[1] == 's' else 'uint'}{match[2]}_t"


@functools.cache
def _declared(text: str) -> FFI:
    """Return what has these structs: the kernel's headers are often those of one that we ship."""
    ffi = FFI()
    ffi.cdef(text)
    return ffi


@functools.cache
def _shipped() -> tuple[Uapi, ...]:
    found = [Uapi.load(path) for path in Path(__file__).parent.glob("*.json")]
    return tuple(
        sorted(found, key=lambda uapi: [int(n) for n in uapi.name.split(".")], reverse=True)
    )
